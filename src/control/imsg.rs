//! Frames of the control socket: OpenBSD's imsg header of 16 bytes in host byte order, then the
//! payload. No sockets here.
//!
//! The length field is 16 bits wide in OpenIKED 7.2 (with 16 bits of flags behind it) and 32 bits
//! in 7.4; on little-endian hosts the two are the same bytes while no descriptor is attached.

use std::fmt;

use super::query::Query;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it asks or answers.
    pub kind: Kind,
    /// Whose answer it is; [`OURS`] in what our server sends.
    pub peer_id: u32,
    /// The sender's process.
    pub pid: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame from this process.
    pub fn new(kind: Kind, peer_id: u32, payload: Vec<u8>) -> Self {
        Self {
            kind,
            peer_id,
            pid: std::process::id(),
            payload,
        }
    }

    /// Appends the frame's bytes; a payload too long for a frame is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let payload = self.payload.get(..PAYLOAD_MAX).unwrap_or(&self.payload);
        let length = HEADER_LEN as u32 + payload.len() as u32;
        for field in [self.kind.0, length, self.peer_id, self.pid] {
            out.extend(field.to_ne_bytes());
        }
        out.extend(payload);
    }

    /// Takes one frame off the front of `bytes`: the frame and its length, or `None` if more bytes
    /// must come first.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [kind, length, peer_id, pid] = fields(header);
        if length & FD_ATTACHED != 0 {
            return Err(FrameError::Descriptor);
        }
        let length = length as usize;
        if !(HEADER_LEN..=FRAME_MAX).contains(&length) {
            return Err(FrameError::Length(length));
        }
        let Some(payload) = bytes.get(HEADER_LEN..length) else {
            return Ok(None);
        };
        let frame = Self {
            kind: Kind(kind),
            peer_id,
            pid,
            payload: payload.to_vec(),
        };
        Ok(Some((frame, length)))
    }

    /// The payload as the `int` that LOG and RESET carry.
    pub fn number(&self) -> Option<i32> {
        self.payload
            .as_slice()
            .try_into()
            .ok()
            .map(i32::from_ne_bytes)
    }

    /// The payload as text: up to the first byte that is not printable, without the newline.
    pub fn text(&self) -> String {
        let printable = |byte: &&u8| byte.is_ascii_graphic() || **byte == b' ';
        self.payload
            .iter()
            .take_while(printable)
            .map(|&byte| char::from(byte))
            .collect()
    }
}

fn fields(header: &[u8; HEADER_LEN]) -> [u32; 4] {
    let mut words = header.chunks_exact(4).map(|word| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(word);
        u32::from_ne_bytes(bytes)
    });
    std::array::from_fn(|_| words.next().unwrap_or_default())
}

/// What a frame asks or answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u32);

/// Names the kinds once, for the constants and for the names that `ikectl monitor` prints.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Kind {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// Its name, if we know it; `ikectl monitor` prints it.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Done. Our server answers commands with it; OpenIKED's does not.
    OK = 1, "ok";
    /// Not done; our server says why in the payload.
    FAIL = 2, "fail";
    /// Be verbose (1) or brief (0).
    VERBOSE = 3, "verbose";
    /// Send me a copy of every frame that other clients send, and with the text [`EVENTS`] the log.
    NOTIFY = 4, "notify";
    /// Read the configuration again, or the file in the payload.
    RELOAD = 5, "reload";
    /// Forget something, see [`Reset`].
    RESET = 6, "reset";
    /// Load Child SAs into the kernel.
    COUPLE = 7, "couple";
    /// Take Child SAs out of the kernel.
    DECOUPLE = 8, "decouple";
    /// Initiate.
    ACTIVE = 9, "active";
    /// Do not initiate.
    PASSIVE = 10, "passive";
    /// Delete the IKE SAs with the peer of this identity.
    RESET_ID = 11, "reset id";
    /// The SAs as text.
    SHOW_SA = 12, "show sa";
    /// Certificates, as OpenIKED 7.4 numbers it.
    SHOW_CERTSTORE = 38, "show certstore";
    /// The counters, as OpenIKED 7.4 numbers it. To 7.2 it means certificates: our server sends the
    /// counters first, which is all that 7.4 reads, and then the certificates' lines.
    SHOW_STATS = 39, "show stats";
    /// The counters, as OpenIKED 7.2 numbers it.
    SHOW_STATS_7_2 = 40, "show stats";
    /// The counters, as OpenBSD numbers it.
    SHOW_STATS_OPENBSD = 45, "show stats";
    /// Ours: all counters as lines `NUMBER NAME`.
    SHOW_COUNTERS = 0x696b_6564, "show counters";
    /// Ours: a line of the log.
    EVENT = 0x696b_6567, "event";
    /// Ours: what the text asks for, see [`Query`].
    SHOW = 0x696b_6566, "show";
    /// Ours: send all peers that understand it to the gateway in the payload (RFC 5685).
    REDIRECT = 0x696b_6565, "redirect";
    /// Ours: the answer takes longer, for the outside is asked for something.
    WAIT = 0x696b_6568, "wait";
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What RESET forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Every SA, without telling the peers.
    All,
    /// Certificates and keys, which are read again.
    Ca,
    /// The policies.
    Policy,
    /// Every IKE SA, telling the peers.
    Sa,
    /// EAP users.
    User,
    /// RADIUS servers and clients.
    Radius,
}

impl Reset {
    /// The number on the socket.
    pub const fn number(self) -> i32 {
        match self {
            Self::All => 1,
            Self::Ca => 2,
            Self::Policy => 3,
            Self::Sa => 4,
            Self::User => 5,
            Self::Radius => 6,
        }
    }

    /// What a number on the socket means.
    pub fn from_number(number: i32) -> Option<Self> {
        let some = [Self::All, Self::Ca, Self::Policy, Self::Sa];
        let more = [Self::User, Self::Radius];
        some.into_iter()
            .chain(more)
            .find(|reset| reset.number() == number)
    }
}

/// Why bytes are no frame. The stream cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length below the header's or above the greatest.
    #[error("frame of {0} bytes")]
    Length(usize),
    /// The frame claims to carry a descriptor.
    #[error("frame with a descriptor")]
    Descriptor,
}

/// Any bytes as a stream of frames, for fuzzing: what is read must write to the same bytes.
pub fn fuzz(mut bytes: &[u8]) {
    while let Ok(Some((frame, length))) = Frame::decode(bytes) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(Some(again.as_slice()), bytes.get(..length));
        let _ = frame.number().and_then(Reset::from_number);
        if let Ok(query) = Query::parse(&frame.text()) {
            assert_eq!(Query::parse(&query.to_string()), Ok(query));
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
}

/// What a NOTIFY of our client says; OpenIKED's server does not look.
pub const EVENTS: &str = "events";
/// Bytes of the header.
pub const HEADER_LEN: usize = 16;
/// Bytes of the longest frame, OpenBSD's limit.
pub const FRAME_MAX: usize = 16_384;
/// Bytes of the longest payload.
pub const PAYLOAD_MAX: usize = FRAME_MAX - HEADER_LEN;
/// Marks frames of our server and our own kinds of frame ("iked"). OpenIKED's client does not look.
pub const OURS: u32 = 0x696b_6564;
/// OpenIKED 7.4's mark of a descriptor. In 7.2 it is bit 0 of the flags, which makes the length
/// impossible.
const FD_ATTACHED: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_four_words_and_its_payload() {
        let frame = Frame {
            kind: Kind::RESET,
            peer_id: 7,
            pid: 9,
            payload: vec![4, 0, 0, 0],
        };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let words: Vec<u8> = [6u32, 20, 7, 9]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        assert_eq!(bytes[..16], words);
        assert_eq!(bytes[16..], [4, 0, 0, 0]);
        assert_eq!(Frame::decode(&bytes), Ok(Some((frame, 20))));
    }

    #[test]
    fn half_a_frame_waits_for_the_rest() {
        let mut bytes = Vec::new();
        Frame::new(Kind::RELOAD, 0, b"/etc/iked.conf".to_vec()).encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..cut]), Ok(None), "{cut} bytes");
        }
        assert_eq!(
            Frame::decode(&bytes).unwrap().unwrap().0.text(),
            "/etc/iked.conf"
        );
    }

    #[test]
    fn impossible_lengths_and_descriptors_are_refused() {
        let header = |length: u32| -> Vec<u8> {
            [12u32, length, 0, 0]
                .iter()
                .flat_map(|word| word.to_ne_bytes())
                .collect()
        };
        assert_eq!(Frame::decode(&header(15)), Err(FrameError::Length(15)));
        assert_eq!(
            Frame::decode(&header(16_385)),
            Err(FrameError::Length(16_385))
        );
        assert_eq!(
            Frame::decode(&header(1 << 31 | 16)),
            Err(FrameError::Descriptor)
        );
        assert!(
            Frame::decode(&header(1 << 16 | 16)).is_err(),
            "descriptor flag of 7.2"
        );
        assert_eq!(Frame::decode(&header(16_384)), Ok(None));
    }

    #[test]
    fn a_long_payload_is_cut_to_the_longest_frame() {
        let mut bytes = Vec::new();
        Frame::new(Kind::SHOW_SA, 0, vec![b'x'; 20_000]).encode(&mut bytes);
        assert_eq!(bytes.len(), FRAME_MAX);
        assert!(Frame::decode(&bytes).unwrap().is_some());
    }

    #[test]
    fn text_ends_at_the_first_byte_that_is_not_printable() {
        let frame = Frame::new(Kind::RESET_ID, 0, b"FQDN/a b\n\x1b[31mx\0".to_vec());
        assert_eq!(frame.text(), "FQDN/a b");
    }

    #[test]
    fn any_bytes_are_read_without_fault() {
        let mut state = 1u64;
        for length in 0..2000usize {
            let mut bytes: Vec<u8> = (0..length % 64)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            if length % 2 == 0 && bytes.len() >= 8 {
                bytes[4..8].copy_from_slice(&(16 + (length as u32 % 9)).to_ne_bytes());
            }
            fuzz(&bytes);
        }
    }
}
