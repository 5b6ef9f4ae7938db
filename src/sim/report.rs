//! What `ikectl show sa` says, read back: the invariants see what an operator sees.

/// One IKE SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Our SPI.
    pub own_spi: u64,
    /// The peer's SPI, zero until known.
    pub peer_spi: u64,
    /// We are its original initiator.
    pub initiator: bool,
    /// The address and port of the peer.
    pub remote: String,
    /// The peer's identity, empty until known.
    pub peer_id: String,
    /// The address leased to the peer, empty for none.
    pub lease: String,
    /// The name of its state.
    pub state: String,
    /// Its Child SAs: inbound and outbound SPI.
    pub children: Vec<(u32, u32)>,
}

impl Line {
    /// Whether it is up.
    pub fn is_established(&self) -> bool {
        self.state == "ESTABLISHED"
    }

    /// Whether it only waits to be forgotten.
    pub fn is_closing(&self) -> bool {
        self.state == "CLOSING"
    }
}

/// Reads the lines of one shard; what is no IKE or Child SA is passed over.
pub fn parse(text: &[String]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut outbound = 0;
    for line in text {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [
                "iked_sas:",
                _,
                "rspi",
                responder,
                "ispi",
                initiator,
                ends,
                state,
                role,
                ..,
            ] => {
                lines.extend(ike(responder, initiator, ends, state, role));
            }
            ["sa_childsas:", _, _, spi, "out", ..] => outbound = number(spi),
            ["sa_childsas:", _, _, spi, "in", ..] => {
                if let Some(line) = lines.last_mut() {
                    line.children
                        .push((child_spi(number(spi)), child_spi(outbound)));
                }
            }
            _ => {}
        }
    }
    lines
}

/// `local->remote<identity>[lease]`.
fn ike(responder: &str, initiator: &str, ends: &str, state: &str, role: &str) -> Option<Line> {
    let (_, peer) = ends.split_once("->")?;
    let (remote, rest) = peer.split_once('<')?;
    let (peer_id, rest) = rest.split_once('>')?;
    let lease = rest.strip_prefix('[')?.split(']').next()?;
    let initiator_spi = number(initiator);
    let responder_spi = number(responder);
    let is_initiator = role == "i";
    let (own_spi, peer_spi) = if is_initiator {
        (initiator_spi, responder_spi)
    } else {
        (responder_spi, initiator_spi)
    };
    Some(Line {
        own_spi,
        peer_spi,
        initiator: is_initiator,
        remote: remote.to_owned(),
        peer_id: peer_id.to_owned(),
        lease: lease.to_owned(),
        state: state.to_owned(),
        children: Vec::new(),
    })
}

fn number(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).unwrap_or(0)
}

fn child_spi(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(0)
}
