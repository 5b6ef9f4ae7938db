//! Which shard a datagram belongs to: the tag in every SPI we choose, the rule that reads it, and
//! the same rule as a classic BPF program for the kernel's SO_REUSEPORT choice.
//!
//! The first byte of each IKE SPI and the top byte of each ESP SPI of ours is the shard's number
//! plus one. A rule in two languages stays one rule because `tests/steering.rs` compares them.

use crate::wire::spi::{EspSpi, IkeSpi};

/// Number of a shard, from 0; at most [`SHARDS_MAX`] exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u8);

/// More shards have no tag of their own.
pub const SHARDS_MAX: u8 = 254;

/// An IKE SPI of this shard with 56 random bits.
pub fn tag_spi(random: u64, shard: ShardId) -> IkeSpi {
    let tag = u64::from(shard.0.saturating_add(1)) << 56;
    // INVARIANT: the tag is never zero.
    IkeSpi::new(tag | random >> 8).unwrap_or(IkeSpi::MAX)
}

/// An ESP SPI of this shard with 24 random bits; always above 255, as RFC 4303, 2.1 wants.
pub fn tag_esp_spi(random: u32, shard: ShardId) -> EspSpi {
    let tag = u32::from(shard.0.saturating_add(1)) << 24;
    EspSpi::new(tag | random >> 8).unwrap_or(EspSpi::MAX)
}

/// The shard that chose this IKE SPI, if it is one of ours.
pub fn shard_of_ike_spi(spi: IkeSpi) -> Option<ShardId> {
    let [tag, ..] = spi.to_bytes();
    tag.checked_sub(1).map(ShardId)
}

/// The shard that chose this ESP SPI, if it is one of ours.
pub fn shard_of_esp_spi(spi: EspSpi) -> Option<ShardId> {
    let [tag, ..] = spi.to_bytes();
    tag.checked_sub(1).map(ShardId)
}

/// What the rule says of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// It names an SPI of this shard.
    Shard(ShardId),
    /// It names no SPI of ours; its initiator SPI hashes to this shard, so that repetitions of an
    /// IKE_SA_INIT request meet.
    Initial(ShardId),
    /// Any shard will do: too short, ESP, or a tag that no shard has.
    Any,
}

/// The rule for a number of shards.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    shards: u8,
    key: u32,
}

/// One instruction of classic BPF, `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfInsn {
    /// Operation.
    pub code: u16,
    /// Jump distance if true.
    pub jt: u8,
    /// Jump distance if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Steering {
    /// The rule for `shards` shards (1 to [`SHARDS_MAX`]). `key` keeps outsiders from choosing a
    /// shard; it is made odd.
    pub fn new(shards: u8, key: u32) -> Self {
        Self {
            shards: shards.clamp(1, SHARDS_MAX),
            key: key | 1,
        }
    }

    /// How many shards there are.
    pub const fn shards(&self) -> u8 {
        self.shards
    }

    /// The owner of a datagram. `marker`: of the NAT-T socket, where IKE begins with four zero
    /// bytes (RFC 3948, 2.2).
    pub fn owner_of(&self, payload: &[u8], marker: bool) -> Steer {
        let ike = if marker {
            match payload.split_first_chunk::<4>() {
                Some(([0, 0, 0, 0], ike)) => ike,
                Some(_) | None => return Steer::Any,
            }
        } else {
            payload
        };
        let Some(header) = ike.first_chunk::<IKE_HEADER_LEN>() else {
            return Steer::Any;
        };
        let from_initiator = header[FLAGS_AT] & INITIATOR != 0;
        let tag = if from_initiator {
            header[RESPONDER_SPI_AT]
        } else {
            header[0]
        };
        if tag == 0 {
            let low = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let hash = low.wrapping_mul(self.key) >> 16;
            let shard = hash % u32::from(self.shards);
            return Steer::Initial(ShardId(u8::try_from(shard).unwrap_or(0)));
        }
        if tag > self.shards {
            Steer::Any
        } else {
            Steer::Shard(ShardId(tag - 1))
        }
    }

    /// The rule as a program: returns the number of the socket, or a number past the end for the
    /// kernel's own hash. A load past the end of the datagram would end the program with socket 0,
    /// hence the length check.
    pub fn program(&self, marker: bool) -> Vec<BpfInsn> {
        let insn = |code, jt, jf, k| BpfInsn { code, jt, jf, k };
        let base = if marker { 4 } else { 0 };
        let mut program = vec![insn(LD_W_LEN, 0, 0, 0)];
        // `rest` instructions follow this one up to the last, which says "any".
        let rest = if marker { 16 } else { 14 };
        program.push(insn(JGE_K, 0, rest - 1, IKE_HEADER_LEN as u32 + base));
        if marker {
            program.push(insn(LD_W_ABS, 0, 0, 0));
            program.push(insn(JEQ_K, 0, rest - 3, 0));
        }
        program.extend([
            insn(LD_B_ABS, 0, 0, FLAGS_AT as u32 + base),
            insn(JSET_K, 2, 0, u32::from(INITIATOR)),
            insn(LD_B_ABS, 0, 0, base),
            insn(JA, 0, 0, 1),
            insn(LD_B_ABS, 0, 0, RESPONDER_SPI_AT as u32 + base),
            insn(JEQ_K, 2, 0, 0),
            insn(SUB_K, 0, 0, 1),
            insn(RET_A, 0, 0, 0),
            insn(LD_W_ABS, 0, 0, 4 + base),
            insn(MUL_K, 0, 0, self.key),
            insn(RSH_K, 0, 0, 16),
            insn(MOD_K, 0, 0, u32::from(self.shards)),
            insn(RET_A, 0, 0, 0),
            insn(RET_K, 0, 0, u32::MAX),
        ]);
        program
    }
}

const IKE_HEADER_LEN: usize = 28;
const RESPONDER_SPI_AT: usize = 8;
const FLAGS_AT: usize = 19;
/// "The sender is the original initiator": then the responder SPI is ours.
const INITIATOR: u8 = 0x08;

/// `A = length of the payload`.
pub const LD_W_LEN: u16 = 0x80;
/// `A = word at k`.
pub const LD_W_ABS: u16 = 0x20;
/// `A = byte at k`.
pub const LD_B_ABS: u16 = 0x30;
/// Jump always by k.
pub const JA: u16 = 0x05;
/// Jump if `A == k`.
pub const JEQ_K: u16 = 0x15;
/// Jump if `A >= k`.
pub const JGE_K: u16 = 0x35;
/// Jump if `A & k`.
pub const JSET_K: u16 = 0x45;
/// `A -= k`.
pub const SUB_K: u16 = 0x14;
/// `A *= k`.
pub const MUL_K: u16 = 0x24;
/// `A >>= k`.
pub const RSH_K: u16 = 0x74;
/// `A %= k`.
pub const MOD_K: u16 = 0x94;
/// Return A.
pub const RET_A: u16 = 0x16;
/// Return k.
pub const RET_K: u16 = 0x06;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_their_shard_and_esp_spis_stay_above_the_reserved_ones() {
        for shard in [0, 1, 7, 253] {
            let shard = ShardId(shard);
            assert_eq!(shard_of_ike_spi(tag_spi(0, shard)), Some(shard));
            assert_eq!(shard_of_ike_spi(tag_spi(u64::MAX, shard)), Some(shard));
            assert_eq!(shard_of_esp_spi(tag_esp_spi(u32::MAX, shard)), Some(shard));
            assert!(tag_esp_spi(0, shard).value() > 255);
        }
    }
}
