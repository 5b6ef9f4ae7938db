use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::crypto::keymat::ChildKeys;
use crate::kernel::{Found, SelectorPair, Trap, Volume};
use crate::policy::IpNet;
use crate::wire::registry::ProtocolId;

/// A kernel in memory: SAs by destination and SPI, one owner (reqid) for each selector pair.
#[derive(Debug, Default)]
struct Memory {
    sas: BTreeSet<(IpAddr, EspSpi)>,
    policies: BTreeMap<String, u32>,
    refuse: BTreeSet<EspSpi>,
    foreign: BTreeSet<(IpAddr, EspSpi)>,
    events: Vec<KernelEvent>,
    /// Events did not fit.
    lost: bool,
    /// SAs that have passed a soft limit, with the inbound SPI.
    aged: BTreeMap<EspSpi, EspSpi>,
    /// Reqids of traps by selector pair.
    traps: BTreeMap<String, u32>,
    completed: Vec<EspSpi>,
    moved: Vec<EspSpi>,
    templates: BTreeMap<String, (IpAddr, IpAddr)>,
    /// Nothing in it can be moved.
    rooted: bool,
    calls: usize,
}

#[derive(Debug, Default, Clone)]
struct FakeKernel(Arc<Mutex<Memory>>);

/// What a kernel tells the policies of selector pairs by.
fn name(pair: &SelectorPair) -> String {
    format!("{:?}", pair.key())
}

impl Memory {
    fn add(&mut self, child: &ChildInstall) -> Result<(), KernelError> {
        let names = &child.names;
        let sas = [
            (names.local, names.inbound_spi),
            (names.remote, names.outbound_spi),
        ];
        if sas.iter().any(|sa| self.sas.contains(sa)) {
            return Err(KernelError {
                errno: libc::EEXIST,
                action: "add SA",
            });
        }
        self.sas.extend(sas);
        self.set(names);
        if self.refuse.contains(&names.inbound_spi) {
            // Half-way: the last policy fails, and all that was done is taken back.
            self.remove(names);
            return Err(KernelError {
                errno: libc::ENOMEM,
                action: "add policy",
            });
        }
        Ok(())
    }

    fn shift(&mut self, names: &ChildRemove, to: Outer) -> Result<(), KernelError> {
        if self.rooted {
            return Err(KernelError {
                errno: libc::EOPNOTSUPP,
                action: "move SA",
            });
        }
        let new = names.moved(to);
        for (old, new) in [
            (
                (names.local, names.inbound_spi),
                (new.local, new.inbound_spi),
            ),
            (
                (names.remote, names.outbound_spi),
                (new.remote, new.outbound_spi),
            ),
        ] {
            assert!(self.sas.remove(&old), "moved an SA that is not there");
            assert!(self.sas.insert(new), "moved an SA onto another");
        }
        self.moved.push(names.inbound_spi);
        self.set(&new);
        Ok(())
    }

    fn set(&mut self, names: &ChildRemove) {
        for pair in &names.selectors {
            let key = name(pair);
            self.traps.remove(&key);
            self.policies.insert(key.clone(), names.reqid);
            self.templates.insert(key, (names.local, names.remote));
        }
    }

    fn remove(&mut self, names: &ChildRemove) {
        for sa in [
            (names.local, names.inbound_spi),
            (names.remote, names.outbound_spi),
        ] {
            assert!(
                !self.foreign.contains(&sa),
                "deleted an SA that is not ours"
            );
            self.sas.remove(&sa);
        }
        self.remove_policies(&names.selectors);
    }

    fn remove_policies(&mut self, pairs: &[SelectorPair]) {
        for pair in pairs {
            let key = name(pair);
            self.policies.remove(&key);
            self.traps.remove(&key);
        }
    }
}

impl Backend for FakeKernel {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn apply(&mut self, batch: &[KernelRequest]) -> Vec<Result<(), KernelError>> {
        let mut memory = self.0.lock();
        memory.calls += 1;
        let mut results = Vec::new();
        for request in batch {
            results.push(match request {
                KernelRequest::AddChild { child, .. } => memory.add(child),
                KernelRequest::AddOutbound { child } => {
                    memory.completed.push(child.names.inbound_spi);
                    Ok(())
                }
                KernelRequest::MoveChild { child, to } => memory.shift(child, *to),
                KernelRequest::DeleteChild { child } => {
                    memory.remove(child);
                    Ok(())
                }
                KernelRequest::Count { .. }
                | KernelRequest::LastCount { .. }
                | KernelRequest::Couple { .. }
                | KernelRequest::SetTraps { .. }
                | KernelRequest::Grant { .. }
                | KernelRequest::Return { .. } => {
                    panic!("these are no business of a backend, or have methods of their own")
                }
            });
        }
        results
    }

    fn set_policies(&mut self, child: &ChildRemove) -> Result<(), KernelError> {
        self.0.lock().set(child);
        Ok(())
    }

    fn set_trap(&mut self, trap: &Trap, reqid: u32) -> Result<(), KernelError> {
        let mut memory = self.0.lock();
        memory.remove_policies(&[trap.pair]);
        memory.traps.insert(name(&trap.pair), reqid);
        Ok(())
    }

    fn remove_policies(&mut self, pairs: &[SelectorPair]) -> Result<(), KernelError> {
        self.0.lock().remove_policies(pairs);
        Ok(())
    }

    fn count(&mut self, children: &[ChildRemove]) -> Vec<Count> {
        let mut memory = self.0.lock();
        memory.calls += 1;
        let count = |child: &ChildRemove| Count {
            spi: child.inbound_spi,
            inbound: volume(1),
            outbound: volume(child.reqid),
        };
        children.iter().map(count).collect()
    }

    fn event_fd(&self) -> Option<RawFd> {
        None
    }

    fn poll_events(&mut self, events: &mut Vec<KernelEvent>) -> bool {
        let mut memory = self.0.lock();
        events.append(&mut memory.events);
        std::mem::take(&mut memory.lost)
    }

    fn survey(&mut self, _: SystemTime, each: &mut dyn FnMut(Found)) -> Result<(), KernelError> {
        let memory = self.0.lock();
        for (destination, spi) in &memory.sas {
            each(Found::Sa {
                destination: *destination,
                spi: *spi,
                aged: memory.aged.get(spi).copied(),
            });
        }
        memory.traps.values().for_each(|reqid| {
            each(Found::Wanted { reqid: *reqid });
        });
        Ok(())
    }
}

fn net(text: &str) -> IpNet {
    let (addr, len) = text.split_once('/').unwrap();
    IpNet {
        addr: addr.parse().unwrap(),
        len: len.parse().unwrap(),
    }
}

fn child(inbound: u32, reqid: u32, remote_net: &str) -> ChildRemove {
    ChildRemove {
        ipcomp: None,
        protocol: ProtocolId::ESP,
        transport: false,
        local: "192.0.2.1".parse().unwrap(),
        remote: "192.0.2.2".parse().unwrap(),
        inbound_spi: EspSpi::new(inbound).unwrap(),
        outbound_spi: EspSpi::new(inbound ^ 0x00ff_0000).unwrap(),
        reqid,
        selectors: vec![SelectorPair {
            protocol: 0,
            local: net("10.1.0.0/16"),
            local_port: None,
            remote: net(remote_net),
            remote_port: None,
            outward: false,
            if_id: None,
        }],
    }
}

fn add(id: u64, names: &ChildRemove) -> (ShardId, KernelRequest) {
    let child = Box::new(ChildInstall {
        names: names.clone(),
        transforms: Vec::new(),
        keys: no_keys(),
        encap: None,
        lifetime_soft: Duration::ZERO,
        lifetime_hard: Duration::ZERO,
        bytes_soft: 0,
        bytes_hard: 0,
        replay_window: 64,
        mark: None,
        if_id: None,
        offload: None,
        receive_only: false,
        grant: None,
    });
    let shard = steer::shard_of_esp_spi(names.inbound_spi).unwrap();
    (
        shard,
        KernelRequest::AddChild {
            id: RequestId(id),
            child,
        },
    )
}

fn no_keys() -> ChildKeys {
    let none = || crate::crypto::SecretBytes::new(Vec::new());
    ChildKeys {
        outbound_encr: none(),
        outbound_integ: none(),
        inbound_encr: none(),
        inbound_integ: none(),
    }
}

fn delete(names: &ChildRemove) -> (ShardId, KernelRequest) {
    let shard = steer::shard_of_esp_spi(names.inbound_spi).unwrap();
    (
        shard,
        KernelRequest::DeleteChild {
            child: Box::new(names.clone()),
        },
    )
}

fn pair_owner(kernel: &FakeKernel, child: &ChildRemove) -> Option<u32> {
    kernel
        .0
        .lock()
        .policies
        .get(&name(&child.selectors[0]))
        .copied()
}

fn shift(names: &ChildRemove, remote: &str) -> (ShardId, KernelRequest) {
    let shard = steer::shard_of_esp_spi(names.inbound_spi).unwrap();
    let to = Outer {
        local: names.local,
        remote: remote.parse().unwrap(),
        encap: None,
    };
    let child = Box::new(names.clone());
    (shard, KernelRequest::MoveChild { child, to })
}

/// The peer's address in the policies of this Child SA's selectors.
fn leads_to(kernel: &FakeKernel, child: &ChildRemove) -> Option<String> {
    let key = name(&child.selectors[0]);
    let templates = &kernel.0.lock().templates;
    templates.get(&key).map(|(_, remote)| remote.to_string())
}

fn sadb() -> (FakeKernel, Sadb) {
    let kernel = FakeKernel::default();
    let sadb = Sadb::new(Some(Box::new(kernel.clone())), None);
    (kernel, sadb)
}

fn done(answers: &BTreeMap<ShardId, Vec<KernelEvent>>, id: u64) -> bool {
    answers
        .values()
        .flatten()
        .any(|event| *event == KernelEvent::Done { id: RequestId(id) })
}

fn failed(answers: &BTreeMap<ShardId, Vec<KernelEvent>>, id: u64) -> bool {
    let failed = |event: &KernelEvent| matches!(event, KernelEvent::Failed { id: found, .. } if found.0 == id);
    answers.values().flatten().any(failed)
}

#[test]
fn one_turn_is_one_batch_and_one_answer_for_each_shard() {
    let (kernel, mut sadb) = sadb();
    let (a, b, c) = (
        child(0x0100_0001, 1, "10.2.1.0/24"),
        child(0x0200_0001, 2, "10.2.2.0/24"),
        child(0x0100_0002, 3, "10.2.3.0/24"),
    );
    sadb.serve(vec![add(1, &a), add(2, &b), add(3, &c)]);
    assert_eq!(kernel.0.lock().calls, 1);
    let answers = sadb.take_answers();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[&ShardId(0)].len(), 2);
    assert_eq!(
        answers[&ShardId(1)],
        [KernelEvent::Done { id: RequestId(2) }]
    );
    assert!(sadb.take_answers().is_empty());
    sadb.remove_all();
    assert!(kernel.0.lock().sas.is_empty() && kernel.0.lock().policies.is_empty());
}

#[test]
fn what_is_told_apart_by_source_nat_alone_shares_its_policies() {
    for order in [[0, 1], [1, 0]] {
        let (kernel, mut sadb) = sadb();
        let whole = child(0x0100_0001, 1, "10.2.0.0/16");
        let mut outward = child(0x0200_0002, 2, "10.2.0.0/16");
        outward.selectors[0].outward = true;
        let both = [whole, outward];
        for at in order {
            sadb.serve(vec![add(1, &both[at])]);
            assert_eq!(pair_owner(&kernel, &both[at]), Some(both[at].reqid));
        }
        // The younger one goes, and the other has them again; then nobody has.
        let [first, second] = order;
        sadb.serve(vec![delete(&both[second])]);
        assert_eq!(pair_owner(&kernel, &both[first]), Some(both[first].reqid));
        sadb.serve(vec![delete(&both[first])]);
        assert_eq!(pair_owner(&kernel, &both[first]), None);
        assert!(kernel.0.lock().sas.is_empty());
    }
}

#[test]
fn rekey_hands_the_policies_over_in_either_order() {
    for delete_first in [false, true] {
        let (kernel, mut sadb) = sadb();
        let old = child(0x0100_0001, 1, "10.2.0.0/16");
        let new = child(0x0100_0002, 2, "10.2.0.0/16");
        sadb.serve(vec![add(1, &old)]);
        let mut turn = vec![add(2, &new), delete(&old)];
        if delete_first {
            turn.reverse();
        }
        sadb.serve(turn);
        assert_eq!(
            pair_owner(&kernel, &new),
            Some(2),
            "delete first: {delete_first}"
        );
        assert_eq!(kernel.0.lock().sas.len(), 2);
        sadb.serve(vec![delete(&new)]);
        assert_eq!(pair_owner(&kernel, &new), None);
        assert!(kernel.0.lock().sas.is_empty() && sadb.is_empty());
    }
}

#[test]
fn the_loser_of_a_double_rekey_gives_its_policies_back() {
    let (kernel, mut sadb) = sadb();
    let (old, first, second) = (
        child(0x0100_0001, 1, "10.2.0.0/16"),
        child(0x0100_0002, 2, "10.2.0.0/16"),
        child(0x0100_0003, 3, "10.2.0.0/16"),
    );
    sadb.serve(vec![add(1, &old), add(2, &first), add(3, &second)]);
    assert_eq!(pair_owner(&kernel, &old), Some(3));
    sadb.serve(vec![delete(&second)]);
    assert_eq!(pair_owner(&kernel, &old), Some(2));
    sadb.serve(vec![delete(&old)]);
    assert_eq!(pair_owner(&kernel, &old), Some(2));
}

#[test]
fn younger_child_of_the_same_turn_keeps_policies_from_being_given_back() {
    let (kernel, mut sadb) = sadb();
    // `first` and `third` have the same template, `second` between them has another.
    let first = child(0x0100_0001, 1, "10.2.0.0/16");
    let second = child(0x0100_0002, 2, "10.2.0.0/16");
    let third = child(0x0100_0003, 1, "10.2.0.0/16");
    sadb.serve(vec![add(1, &first), add(2, &second)]);
    sadb.serve(vec![delete(&second), add(3, &third)]);
    assert_eq!(pair_owner(&kernel, &first), Some(1));
    sadb.serve(vec![delete(&first)]);
    assert_eq!(pair_owner(&kernel, &first), Some(1), "of the third now");
    sadb.serve(vec![delete(&third)]);
    assert_eq!(pair_owner(&kernel, &first), None);
}

#[test]
fn random_requests_leave_the_kernel_as_the_mirror_says() {
    let mut state = 7u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..300 {
        let (kernel, mut sadb) = sadb();
        let mut alive: Vec<ChildRemove> = Vec::new();
        let mut next = 0;
        for _ in 0..12 {
            let (mut turn, mut asked) = (Vec::new(), Vec::new());
            for _ in 0..random(6) {
                if alive.is_empty() || random(2) == 0 {
                    next += 1;
                    let spi = 0x0100_0000 + next;
                    let nets = ["10.2.0.0/16", "10.3.0.0/16"];
                    let new = child(spi, 1 + random(3) as u32, nets[random(2) as usize]);
                    if random(4) == 0 {
                        kernel.0.lock().refuse.insert(new.inbound_spi);
                    }
                    turn.push(add(u64::from(next), &new));
                    asked.push(new.clone());
                    alive.push(new);
                } else {
                    let gone = alive.remove(random(alive.len() as u64) as usize);
                    turn.push(delete(&gone));
                }
            }
            sadb.serve(turn);
            let answers = sadb.take_answers();
            assert_eq!(answers.values().flatten().count(), asked.len());
            alive.retain(|child| !kernel.0.lock().refuse.contains(&child.inbound_spi));
            let memory = kernel.0.lock();
            assert_eq!(memory.sas.len(), alive.len() * 2);
            let mut wanted = BTreeMap::new();
            for child in &alive {
                wanted.insert(format!("{:?}", child.selectors[0]), child.reqid);
            }
            assert_eq!(memory.policies, wanted);
        }
    }
}

#[test]
fn failed_addition_leaves_the_policies_to_the_older_owner() {
    let (kernel, mut sadb) = sadb();
    let old = child(0x0100_0001, 1, "10.2.0.0/16");
    let new = child(0x0100_0002, 2, "10.2.0.0/16");
    kernel.0.lock().refuse.insert(new.inbound_spi);
    sadb.serve(vec![add(1, &old)]);
    sadb.serve(vec![add(2, &new)]);
    assert!(failed(&sadb.take_answers(), 2));
    assert_eq!(pair_owner(&kernel, &old), Some(1));
    assert_eq!(sadb.len(), 1);
}

#[test]
fn policies_left_to_a_failed_rekey_go_with_the_old_child() {
    let (kernel, mut sadb) = sadb();
    // The same reqid: the new Child SA takes the policies as they stand.
    let old = child(0x0100_0001, 1, "10.2.0.0/16");
    let new = child(0x0100_0002, 1, "10.2.0.0/16");
    kernel.0.lock().refuse.insert(new.inbound_spi);
    sadb.serve(vec![add(1, &old)]);
    sadb.serve(vec![add(2, &new), delete(&old)]);
    assert!(failed(&sadb.take_answers(), 2));
    assert_eq!(pair_owner(&kernel, &old), None);
    assert!(kernel.0.lock().sas.is_empty() && sadb.is_empty());
}

#[test]
fn foreign_sa_in_the_way_is_not_deleted() {
    let (kernel, mut sadb) = sadb();
    let ours = child(0x0100_0001, 1, "10.2.0.0/16");
    let foreign = (ours.remote, ours.outbound_spi);
    kernel.0.lock().sas.insert(foreign);
    kernel.0.lock().foreign.insert(foreign);
    sadb.serve(vec![add(1, &ours)]);
    assert!(failed(&sadb.take_answers(), 1));
    sadb.serve(vec![delete(&ours)]);
    sadb.serve(vec![add(2, &ours), delete(&ours)]);
    assert!(failed(&sadb.take_answers(), 2));
    assert!(kernel.0.lock().sas.contains(&foreign));
}

#[test]
fn reused_outbound_spi_waits_for_the_deletion_before_it() {
    let (_, mut sadb) = sadb();
    let old = child(0x0100_0001, 1, "10.2.0.0/16");
    let mut new = child(0x0100_0002, 2, "10.3.0.0/16");
    new.outbound_spi = old.outbound_spi;
    sadb.serve(vec![add(1, &old), add(2, &new)]);
    assert!(
        failed(&sadb.take_answers(), 2),
        "two peers' SAs cannot share one place"
    );
    sadb.serve(vec![delete(&old), add(3, &new)]);
    assert!(done(&sadb.take_answers(), 3));
}

#[test]
fn decoupled_answers_and_does_nothing() {
    let mut sadb = Sadb::new(None, None);
    let some = child(0x0100_0001, 1, "10.2.0.0/16");
    sadb.serve(vec![add(1, &some), delete(&some)]);
    assert!(done(&sadb.take_answers(), 1));
    assert!(sadb.is_empty());
}

#[test]
fn who_is_coupled_later_finds_the_way_and_is_told_why_there_is_none() {
    let kernel = FakeKernel::default();
    let (behind, mut tries) = (kernel.clone(), 0);
    let mut sadb = Sadb::new(None, None);
    sadb.open = Some(Box::new(move || {
        tries += 1;
        if tries == 1 {
            return Err("no ESP".to_owned());
        }
        Ok(Ways {
            backend: Box::new(behind.clone()),
            interfaces: None,
        })
    }));
    let some = child(0x0100_0001, 1, "10.2.0.0/16");
    let couple = |id| (ShardId(1), KernelRequest::Couple { id: RequestId(id) });
    let coupled = |id, result: Result<(), &str>| KernelEvent::Coupled {
        id: RequestId(id),
        result: result.map_err(str::to_owned),
    };
    sadb.serve(vec![delete(&some), couple(7), add(1, &some)]);
    let answers = sadb.take_answers();
    assert_eq!(answers[&ShardId(1)][0], coupled(7, Err("no ESP")));
    assert!(failed(&answers, 1));
    assert!(kernel.0.lock().sas.is_empty());
    sadb.serve(vec![couple(8), add(2, &some)]);
    let answers = sadb.take_answers();
    assert_eq!(answers[&ShardId(1)][0], coupled(8, Ok(())));
    assert!(done(&answers, 2));
    sadb.serve(vec![couple(9)]);
    assert_eq!(
        sadb.take_answers()[&ShardId(1)],
        [coupled(9, Ok(()))],
        "it is open"
    );
    assert_eq!(kernel.0.lock().sas.len(), 2);
}

#[test]
fn expiry_goes_to_the_shard_that_the_spi_names_and_others_to_nobody() {
    let (kernel, mut sadb) = sadb();
    let spi = |value| EspSpi::new(value).unwrap();
    kernel.0.lock().events = vec![
        KernelEvent::Expire {
            spi: spi(0x0300_0001),
            hard: false,
        },
        KernelEvent::Expire {
            spi: spi(0x0000_1001),
            hard: true,
        },
    ];
    assert!(sadb.take_events());
    let answers = sadb.take_answers();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[&ShardId(2)].len(), 1);
    assert!(!sadb.take_events());
}

#[test]
fn thread_answers_by_mail_and_cleans_up_at_shutdown() {
    let (kernel, _) = sadb();
    let poll = Poll::new().unwrap();
    let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER).unwrap());
    let (to_kernel, inbox) = crate::mail::mailbox(8, waker);
    let mut shard_poll = Poll::new().unwrap();
    let waker = Arc::new(mio::Waker::new(shard_poll.registry(), Token(0)).unwrap());
    let (to_shard, shard_inbox) = crate::mail::mailbox(8, waker);
    let parts = SadbParts {
        ways: Some(Ways {
            backend: Box::new(kernel.clone()),
            interfaces: None,
        }),
        open: Box::new(|| panic!("it is open")),
        watch: None,
        poll,
        inbox,
        shards: vec![to_shard],
    };
    let thread = std::thread::spawn(move || run(parts));
    let (from, request) = add(7, &child(0x0100_0001, 1, "10.2.0.0/16"));
    to_kernel
        .try_send(KernelMail::Requests {
            from,
            requests: vec![request],
        })
        .unwrap();
    let mut ready = Events::with_capacity(4);
    shard_poll
        .poll(&mut ready, Some(Duration::from_secs(10)))
        .unwrap();
    let mut answered = false;
    shard_inbox.drain(8, |mail| {
        if let ShardMail::Kernel(events) = mail {
            answered = events == [KernelEvent::Done { id: RequestId(7) }];
        }
    });
    assert!(answered);
    assert_eq!(kernel.0.lock().sas.len(), 2);
    to_kernel.try_send(KernelMail::Shutdown).unwrap();
    thread.join().unwrap().unwrap();
    assert!(kernel.0.lock().sas.is_empty());
}

#[test]
fn a_moved_child_takes_its_policies_along_and_is_deleted_where_it_is() {
    let (kernel, mut sadb) = sadb();
    let some = child(0x0100_0001, 1, "10.2.0.0/16");
    sadb.serve(vec![add(1, &some), shift(&some, "198.51.100.7")]);
    assert!(done(&sadb.take_answers(), 1), "the only answer");
    assert_eq!(leads_to(&kernel, &some).unwrap(), "198.51.100.7");
    let there = ("198.51.100.7".parse().unwrap(), some.outbound_spi);
    assert!(kernel.0.lock().sas.contains(&there));
    // Two moves in one turn are one.
    let turn = vec![shift(&some, "198.51.100.8"), shift(&some, "198.51.100.9")];
    sadb.serve(turn);
    assert_eq!(kernel.0.lock().moved.len(), 2);
    assert_eq!(leads_to(&kernel, &some).unwrap(), "198.51.100.9");
    // The one who deletes it may still think that it is where it began.
    sadb.serve(vec![shift(&some, "198.51.100.10"), delete(&some)]);
    assert!(kernel.0.lock().sas.is_empty() && sadb.is_empty());
    assert_eq!(kernel.0.lock().moved.len(), 2, "what goes need not move");
    sadb.serve(vec![shift(&some, "198.51.100.11")]);
    assert!(sadb.take_answers().is_empty());
}

#[test]
fn policies_of_a_younger_child_are_not_moved_by_an_older_one() {
    let (kernel, mut sadb) = sadb();
    let old = child(0x0100_0001, 1, "10.2.0.0/16");
    let new = child(0x0100_0002, 2, "10.2.0.0/16");
    sadb.serve(vec![add(1, &old), add(2, &new)]);
    sadb.serve(vec![shift(&old, "198.51.100.7")]);
    assert_eq!(leads_to(&kernel, &new).unwrap(), "192.0.2.2");
    sadb.serve(vec![delete(&new)]);
    assert_eq!(leads_to(&kernel, &old).unwrap(), "198.51.100.7");
    assert_eq!(pair_owner(&kernel, &old), Some(1));
}

#[test]
fn what_cannot_be_moved_stays_and_its_shard_is_asked_to_replace_it() {
    let (kernel, mut sadb) = sadb();
    kernel.0.lock().rooted = true;
    let some = child(0x0100_0001, 1, "10.2.0.0/16");
    sadb.serve(vec![add(1, &some)]);
    sadb.take_answers();
    sadb.serve(vec![shift(&some, "198.51.100.7")]);
    let soft = KernelEvent::Expire {
        spi: some.inbound_spi,
        hard: false,
    };
    assert_eq!(
        sadb.take_answers()[&ShardId(0)],
        std::slice::from_ref(&soft)
    );
    assert_eq!(leads_to(&kernel, &some).unwrap(), "192.0.2.2");
    sadb.serve(vec![delete(&some)]);
    assert!(kernel.0.lock().sas.is_empty());
    // Nor can one move to where another with its SPI is.
    kernel.0.lock().rooted = false;
    let mut other = child(0x0100_0002, 2, "10.3.0.0/16");
    other.outbound_spi = some.outbound_spi;
    other.remote = "198.51.100.7".parse().unwrap();
    sadb.serve(vec![add(2, &some), add(3, &other)]);
    sadb.take_answers();
    sadb.serve(vec![shift(&some, "198.51.100.7")]);
    assert_eq!(sadb.take_answers()[&ShardId(0)], [soft]);
    assert_eq!(kernel.0.lock().sas.len(), 4);
}

#[test]
fn an_spi_that_a_move_sets_free_can_be_used_in_the_same_turn() {
    let (_, mut sadb) = sadb();
    let some = child(0x0100_0001, 1, "10.2.0.0/16");
    let mut other = child(0x0100_0002, 2, "10.3.0.0/16");
    other.outbound_spi = some.outbound_spi;
    sadb.serve(vec![add(1, &some)]);
    sadb.serve(vec![shift(&some, "198.51.100.7"), add(2, &other)]);
    assert!(done(&sadb.take_answers(), 2));
}

fn trap(policy: u32, remote_net: &str) -> Trap {
    Trap {
        policy,
        pair: child(1, 1, remote_net).selectors[0],
        protocol: ProtocolId::ESP,
        transport: false,
        local: "0.0.0.0".parse().unwrap(),
        remote: "192.0.2.2".parse().unwrap(),
    }
}

fn set_traps(shard: u8, traps: &[Trap]) -> (ShardId, KernelRequest) {
    let traps = traps.to_vec();
    (ShardId(shard), KernelRequest::SetTraps { traps })
}

/// The reqid of the trap for these selectors, if it stands.
fn trapped(kernel: &FakeKernel, trap: &Trap) -> Option<u32> {
    let memory = kernel.0.lock();
    memory.traps.get(&format!("{:?}", trap.pair)).copied()
}

#[test]
fn a_child_sa_takes_the_place_of_a_trap_and_gives_it_back() {
    let (kernel, mut sadb) = sadb();
    let (near, far) = (trap(0, "10.2.0.0/16"), trap(1, "10.3.0.0/16"));
    sadb.serve(vec![set_traps(1, &[near, far])]);
    let first = trapped(&kernel, &near).unwrap();
    assert_ne!(trapped(&kernel, &far), Some(first));
    let (old, new) = (
        child(0x0100_0001, 1, "10.2.0.0/16"),
        child(0x0100_0002, 1, "10.2.0.0/16"),
    );
    sadb.serve(vec![add(1, &old)]);
    assert_eq!(pair_owner(&kernel, &old), Some(1));
    assert_eq!(trapped(&kernel, &near), None);
    // Over a rekey in which there is never none, the trap stays away.
    sadb.serve(vec![add(2, &new), delete(&old)]);
    assert_eq!(
        (pair_owner(&kernel, &old), trapped(&kernel, &near)),
        (Some(1), None)
    );
    sadb.serve(vec![delete(&new)]);
    assert_eq!(pair_owner(&kernel, &old), None);
    let again = trapped(&kernel, &near).unwrap();
    assert_ne!(again, first, "the kernel may ask at once for another reqid");
    assert!(kernel.0.lock().sas.is_empty());
    // A refused addition leaves it standing, too.
    kernel.0.lock().refuse.insert(old.inbound_spi);
    sadb.serve(vec![add(3, &old)]);
    assert!(trapped(&kernel, &near).is_some());
    assert_eq!(pair_owner(&kernel, &old), None);
    // The shard wants one less, and then none.
    sadb.serve(vec![set_traps(1, &[far])]);
    assert_eq!(trapped(&kernel, &near), None);
    assert!(trapped(&kernel, &far).is_some());
    sadb.remove_all();
    assert!(kernel.0.lock().traps.is_empty());
}

#[test]
fn a_trap_that_goes_while_a_child_sa_stands_is_not_put_back_after_it() {
    let (kernel, mut sadb) = sadb();
    let near = trap(0, "10.2.0.0/16");
    let some = child(0x0100_0001, 1, "10.2.0.0/16");
    sadb.serve(vec![set_traps(0, &[near]), add(1, &some)]);
    sadb.serve(vec![set_traps(0, &[])]);
    assert_eq!(pair_owner(&kernel, &some), Some(1));
    sadb.serve(vec![delete(&some)]);
    assert!(kernel.0.lock().policies.is_empty() && kernel.0.lock().traps.is_empty());
}

#[test]
fn a_packet_that_hits_a_trap_is_told_to_the_shard_that_set_it_and_no_other_is() {
    let (kernel, mut sadb) = sadb();
    let near = trap(4, "10.2.0.0/16");
    // Two policies with the same selectors: the first has it.
    sadb.serve(vec![
        set_traps(2, &[near]),
        set_traps(0, &[trap(3, "10.2.0.0/16")]),
    ]);
    let reqid = trapped(&kernel, &near).unwrap();
    let acquire = |reqid| KernelEvent::Acquire { reqid };
    kernel.0.lock().events = vec![acquire(reqid), acquire(reqid + 1), acquire(7)];
    sadb.take_events();
    let answers = sadb.take_answers();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[&ShardId(2)], [KernelEvent::Wanted { trap: near }]);
    // One that comes late, when a Child SA is there, is nobody's.
    sadb.serve(vec![add(1, &child(0x0100_0001, 1, "10.2.0.0/16"))]);
    sadb.take_answers();
    kernel.0.lock().events = vec![acquire(reqid)];
    sadb.take_events();
    assert!(sadb.take_answers().is_empty());
}

/// So many packets of 100 bytes.
fn volume(packets: u32) -> Volume {
    Volume {
        packets: packets.into(),
        octets: u64::from(packets) * 100,
    }
}

#[test]
fn all_questions_of_a_turn_are_one_call_and_each_gets_its_answer() {
    let (kernel, mut sadb) = sadb();
    let (a, b) = (
        child(0x0100_0001, 5, "10.2.1.0/24"),
        child(0x0200_0001, 6, "10.2.2.0/24"),
    );
    sadb.serve(vec![add(1, &a), add(2, &b)]);
    sadb.take_answers();
    let before = kernel.0.lock().calls;
    let asker = |spi| IkeSpi::new(spi).unwrap();
    let ask = |shard, asker, children: &[&ChildRemove]| {
        let children = children.iter().map(|child| child.inbound_spi).collect();
        (ShardId(shard), KernelRequest::Count { asker, children })
    };
    let gone = child(0x0100_0009, 7, "10.2.3.0/24");
    sadb.serve(vec![
        ask(0, asker(1), &[&a, &gone]),
        ask(1, asker(2), &[&b]),
    ]);
    assert_eq!(kernel.0.lock().calls, before + 1);
    let count = |child: &ChildRemove| Count {
        spi: child.inbound_spi,
        inbound: volume(1),
        outbound: volume(child.reqid),
    };
    let answers = sadb.take_answers();
    let counts = |asker, child| KernelEvent::Counts {
        asker,
        counts: vec![count(child)],
    };
    assert_eq!(answers[&ShardId(0)], [counts(asker(1), &a)]);
    assert_eq!(answers[&ShardId(1)], [counts(asker(2), &b)]);
    // Decoupled nothing is counted, but whoever asks must not wait for ever.
    let mut decoupled = Sadb::new(None, None);
    decoupled.serve(vec![ask(0, asker(1), &[&a])]);
    let answers = decoupled.take_answers();
    let none = KernelEvent::Counts {
        asker: asker(1),
        counts: Vec::new(),
    };
    assert_eq!(answers[&ShardId(0)], [none]);
}

#[test]
fn what_is_removed_is_counted_before_in_the_same_turn() {
    let (kernel, mut sadb) = sadb();
    let (a, b) = (
        child(0x0100_0001, 5, "10.2.1.0/24"),
        child(0x0100_0002, 6, "10.2.2.0/24"),
    );
    sadb.serve(vec![add(1, &a), add(2, &b)]);
    sadb.take_answers();
    let part = |account, child: &ChildRemove| {
        let child = child.inbound_spi;
        (ShardId(0), KernelRequest::LastCount { account, child })
    };
    let before = kernel.0.lock().calls;
    let gone = child(0x0100_0009, 7, "10.2.3.0/24");
    sadb.serve(vec![
        part(7, &a),
        delete(&a),
        part(7, &b),
        delete(&b),
        part(8, &gone),
    ]);
    assert_eq!(kernel.0.lock().calls, before + 2, "one count, one deletion");
    assert!(sadb.is_empty());
    let told = |account, child: &ChildRemove, there: bool| KernelEvent::LastCount {
        account,
        child: child.inbound_spi,
        count: there.then(|| Count {
            spi: child.inbound_spi,
            inbound: volume(1),
            outbound: volume(child.reqid),
        }),
    };
    let all = [told(7, &a, true), told(7, &b, true), told(8, &gone, false)];
    assert_eq!(sadb.take_answers()[&ShardId(0)], all);
}

#[test]
fn lost_events_are_found_again_in_the_kernel_s_table() {
    let (kernel, mut sadb) = sadb();
    let all: Vec<ChildRemove> = (1..=5)
        .map(|number| child(0x0100_0000 + number, number, &format!("10.2.{number}.0/24")))
        .collect();
    let mut requests: Vec<_> = (0..).zip(&all).map(|(id, names)| add(id, names)).collect();
    // The fifth cannot send yet.
    if let Some((_, KernelRequest::AddChild { child, .. })) = requests.last_mut() {
        child.receive_only = true;
    }
    let trap = trap(3, "10.8.0.0/16");
    let traps = vec![trap];
    requests.push((ShardId(0), KernelRequest::SetTraps { traps }));
    sadb.serve(requests);
    let mut memory = kernel.0.lock();
    for names in [&all[0], &all[4]] {
        memory.sas.remove(&(names.remote, names.outbound_spi));
    }
    memory.sas.remove(&(all[1].local, all[1].inbound_spi));
    memory.aged.insert(all[2].outbound_spi, all[2].inbound_spi);
    drop(memory);
    sadb.take_answers();
    sadb.take_events();
    assert!(sadb.take_answers().is_empty(), "nothing was lost");
    kernel.0.lock().lost = true;
    sadb.take_events();
    let expire = |at: usize, hard| KernelEvent::Expire {
        spi: all[at].inbound_spi,
        hard,
    };
    let wanted = [
        KernelEvent::Wanted { trap },
        expire(0, true),
        expire(1, true),
        expire(2, false),
    ];
    assert_eq!(sadb.take_answers()[&ShardId(0)], wanted);
}
