//! How large an IP packet a message may fill (RFC 7383, 2.5.1 and 2.5.2): begun with what most paths
//! carry, made smaller when a long request stays without answer or when the peer's own fragments
//! are smaller; what worked is kept for the IKE SA until it moves.

use super::context::Context;
use super::ike_sa::IkeSa;
use super::message;

/// Bytes of IKE message that a datagram of this IKE SA may have. An answer does not know whether it
/// arrives, so it dares less than a request as long as nothing is known of the path.
pub fn message_max(cx: &Context, sa: &IkeSa, response: bool) -> usize {
    let blind = response && sa.packet_max.is_none();
    let most = if blind { ANSWER } else { u16::MAX };
    message_len(packet_max(cx, sa).min(most.into()), is_v4(sa))
}

/// Bytes that IKE_SA_INIT, which is never fragmented, may fill with what it could also do without.
pub fn unfragmented_max(cx: &Context, v4: bool) -> usize {
    let packet = match cx.config.settings.fragment_size {
        0 => ANSWER,
        configured => configured.min(ANSWER),
    };
    message_len(packet.into(), v4)
}

/// Bytes of the largest IP packet that is tried now.
fn packet_max(cx: &Context, sa: &IkeSa) -> usize {
    let first = match cx.config.settings.fragment_size {
        0 => FIRST,
        configured => configured,
    };
    usize::from(sa.packet_max.map_or(first, |known| known.min(first)))
}

/// What fits a packet of this size besides IP and UDP headers and the marker of port 4500.
fn message_len(packet: usize, v4: bool) -> usize {
    let headers = HEADERS + if v4 { 20 } else { 40 };
    packet.saturating_sub(headers).max(MESSAGE_MIN)
}

const fn is_v4(sa: &IkeSa) -> bool {
    sa.path.remote.is_ipv4()
}

/// A request of ours is not answered. Returns it in smaller datagrams where it has some that the
/// next smaller packet would not carry: of one that is short anyway the size is not to blame.
pub fn shrink(cx: &mut Context, sa: &mut IkeSa) -> Option<Vec<Vec<u8>>> {
    let datagrams = &sa.window.outstanding()?.datagrams;
    let longest = datagrams.iter().map(Vec::len).max()?;
    let current = packet_max(cx, sa);
    let v4 = is_v4(sa);
    let steps: &[u16] = if v4 { &STEPS_V4 } else { &STEPS_V6 };
    let next = steps.iter().find(|&&step| usize::from(step) < current)?;
    if !sa.fragmentation || longest <= message_len((*next).into(), v4) {
        return None;
    }
    let datagrams = datagrams.clone();
    sa.packet_max = Some(*next);
    message::cut_anew(cx, sa, &datagrams)
}

/// A fragment of the peer, not its last, was this long and got through: what it thinks that the
/// path carries is good for our messages, too.
pub fn learn(cx: &Context, sa: &mut IkeSa, fragment_len: usize) {
    let v4 = is_v4(sa);
    let headers = HEADERS + if v4 { 20 } else { 40 };
    let steps: &[u16] = if v4 { &STEPS_V4 } else { &STEPS_V6 };
    let least = steps.last().copied().map_or(0, usize::from);
    let packet = (fragment_len + headers).max(least);
    if packet < packet_max(cx, sa) {
        sa.packet_max = u16::try_from(packet).ok();
    }
}

/// UDP header and marker.
const HEADERS: usize = 8 + 4;
/// The first try: PPPoE, GRE and tunnels of common kinds leave at least this.
const FIRST: u16 = 1400;
/// The size of answers on a path that nothing is known of.
const ANSWER: u16 = 1280;
/// What comes after it: what is said to pass nearly everywhere, then what every host must take.
const STEPS_V4: [u16; 2] = [1280, 576];
/// The least that any IPv6 path carries.
const STEPS_V6: [u16; 1] = [1280];
/// No datagram is cut smaller than this, whatever the configuration says.
const MESSAGE_MIN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_leave_room_for_the_headers_around_them() {
        assert_eq!(message_len(1400, true), 1400 - 32);
        assert_eq!(message_len(1280, false), 1280 - 52);
        assert_eq!(message_len(100, true), MESSAGE_MIN);
    }
}
