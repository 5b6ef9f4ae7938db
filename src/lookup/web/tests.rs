use std::net::TcpListener;
use std::sync::Arc;

use mio::{Events, Poll, Waker};

use super::*;

/// A web and its poll.
struct Desk {
    poll: Poll,
    web: Web,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let registry = poll.registry().try_clone().unwrap();
        let web = Web::new(registry, Names::new(waker), 1024);
        let now = crate::lookup::now().mono;
        Self { poll, web, now }
    }

    fn fetch(&mut self, server: &TcpListener, seconds: u64) -> Ticket {
        self.fetch_from(server.local_addr().unwrap(), seconds)
    }

    fn fetch_from(&mut self, server: SocketAddr, seconds: u64) -> Ticket {
        let url = Url::read(&format!("http://{server}/x")).unwrap();
        let request = url.get();
        let until = self.now + Duration::from_secs(seconds);
        let fetch = Fetch {
            url,
            request,
            body_max: 100,
            until,
        };
        self.web.begin(fetch, self.now)
    }

    /// Goes on until something is done.
    fn done(&mut self) -> Vec<(Ticket, Result<Vec<u8>, Failure>)> {
        let mut events = Events::with_capacity(64);
        for _ in 0..1000 {
            let done = self.web.take_done();
            if !done.is_empty() {
                return done;
            }
            let wait = Some(Duration::from_millis(20));
            self.poll.poll(&mut events, wait).unwrap();
            for event in events.iter().filter(|event| event.token() != Token(0)) {
                self.web.ready(event.token(), self.now);
            }
            self.web.look(self.now);
        }
        panic!("nothing is ever done")
    }
}

fn server() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Takes one request and says this.
fn serve(server: &TcpListener, answer: &[u8]) {
    let (mut stream, _) = server.accept().unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    assert!(request.starts_with(b"GET /x HTTP/1.0\r\n"));
    stream.write_all(answer).unwrap();
}

/// Like [`serve`], while the desk goes on.
fn serve_for(desk: &mut Desk, server: TcpListener, answer: &'static [u8]) -> Vec<u8> {
    let serving = std::thread::spawn(move || serve(&server, answer));
    let mut done = desk.done();
    serving.join().unwrap();
    assert_eq!(done.len(), 1);
    done.remove(0).1.unwrap()
}

#[test]
fn a_body_arrives_with_a_length_or_by_hanging_up() {
    let mut desk = Desk::new();
    let first = server();
    desk.fetch(&first, 10);
    let said = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(serve_for(&mut desk, first, said), b"hi");
    let second = server();
    desk.fetch(&second, 10);
    assert_eq!(
        serve_for(&mut desk, second, b"HTTP/1.0 200 OK\r\n\r\nho"),
        b"ho"
    );
}

#[test]
fn who_refuses_or_hangs_up_is_told_from_who_is_late() {
    let mut desk = Desk::new();
    let closed = server().local_addr().unwrap();
    let ticket = desk.fetch_from(closed, 10);
    let done = desk.done();
    assert!(matches!(done.as_slice(), [(t, Err(Failure::Unreachable(_)))] if *t == ticket));
    let rude = server();
    desk.fetch(&rude, 10);
    let (stream, _) = rude.accept().unwrap();
    drop(stream);
    assert!(matches!(
        desk.done().as_slice(),
        [(_, Err(Failure::Unreachable(_)))]
    ));
    let silent = server();
    desk.fetch(&silent, 10);
    assert_eq!(
        desk.web.deadline(),
        Some(desk.now + Duration::from_secs(10))
    );
    desk.now += Duration::from_secs(10);
    assert!(matches!(desk.done().as_slice(), [(_, Err(Failure::Late))]));
    assert_eq!(desk.web.deadline(), None);
}

#[test]
fn a_silent_server_holds_up_only_what_is_asked_of_it() {
    let mut desk = Desk::new();
    let (silent, lively) = (server(), server());
    for _ in 0..100 {
        desk.fetch(&silent, 10);
    }
    let server_of = |desk: &Desk, listener: &TcpListener| {
        let key = (
            "127.0.0.1".to_owned(),
            listener.local_addr().unwrap().port(),
        );
        let server = &desk.web.servers[&key];
        (server.active, server.queue.len())
    };
    assert_eq!(
        server_of(&desk, &silent),
        (CONNECTIONS_MAX, 100 - CONNECTIONS_MAX)
    );
    for _ in 0..3 {
        desk.fetch(&lively, 10);
        let other = lively.try_clone().unwrap();
        let said = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(serve_for(&mut desk, other, said), b"hi");
    }
    desk.now += Duration::from_secs(10);
    let mut late = 0;
    while late < 100 {
        let done = desk.done();
        assert!(done.iter().all(|(_, result)| *result == Err(Failure::Late)));
        late += done.len();
    }
    assert!(desk.web.running.is_empty() && desk.web.servers.is_empty());
}

#[test]
fn a_server_that_refuses_gets_through_its_queue_at_once() {
    let mut desk = Desk::new();
    let closed = server().local_addr().unwrap();
    for _ in 0..2000 {
        desk.fetch_from(closed, 10);
    }
    let mut refused = 0;
    while refused < 2000 {
        refused += desk.done().len();
    }
    assert!(desk.web.running.is_empty() && desk.web.deadlines.is_empty());
}

#[test]
fn the_next_address_is_tried_where_the_first_does_not_answer() {
    let mut desk = Desk::new();
    let lively = server();
    let port = lively.local_addr().unwrap().port();
    let ticket = desk.fetch(&lively, 10);
    // As if the name had two addresses; nobody listens at the first.
    let addresses = ["127.0.0.2", "127.0.0.1"].map(|text| text.parse().unwrap());
    let closed = SocketAddr::new(addresses[0], port);
    assert!(std::net::TcpStream::connect(closed).is_err());
    desk.web.call(ticket, &addresses, desk.now);
    let said = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    // The connection that was begun first is there too, and says nothing.
    drop(lively.accept().unwrap());
    assert_eq!(serve_for(&mut desk, lively, said), b"hi");
}
