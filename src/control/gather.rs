//! One question to all shards, one answer from all of them: collects the parts, gives up on the
//! shards that stay silent, and puts the parts together. No sockets and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ike::{Reply, Stats};
use crate::policy::IpNet;
use crate::steer::ShardId;

/// The questions that wait for answers; `T` is whoever asked.
#[derive(Debug)]
pub struct Gather<T> {
    shards: u8,
    dead: BTreeSet<ShardId>,
    next: u64,
    open: BTreeMap<u64, Question<T>>,
}

#[derive(Debug)]
struct Question<T> {
    asker: T,
    deadline: Instant,
    waiting: BTreeSet<ShardId>,
    missing: BTreeSet<ShardId>,
    stats: Stats,
    pools: BTreeMap<IpNet, u64>,
    count: usize,
    failure: Option<String>,
    text: BTreeMap<ShardId, Vec<String>>,
    text_bytes: usize,
    truncated: bool,
}

/// What all shards together said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The lines of all shards, sections together, shard after shard.
    pub lines: Vec<String>,
    /// The sum of the counters.
    pub stats: Stats,
    /// Leased addresses of each pool.
    pub pools: BTreeMap<IpNet, u64>,
    /// How many IKE SAs it concerned.
    pub count: usize,
    /// Why a shard could not do it: of several the first to say so.
    pub failure: Option<String>,
    /// Shards that did not answer in time.
    pub missing: Vec<ShardId>,
    /// Lines were left out because there were too many.
    pub truncated: bool,
}

impl Answer {
    /// Why it was not done, or by which shards not: `no answer from shard 1, 3`.
    pub fn complaint(&self) -> Option<String> {
        if self.failure.is_some() {
            return self.failure.clone();
        }
        let names: Vec<String> = self
            .missing
            .iter()
            .map(|shard| shard.0.to_string())
            .collect();
        (!names.is_empty()).then(|| format!("no answer from shard {}", names.join(", ")))
    }
}

impl<T> Gather<T> {
    /// For this many shards.
    pub const fn new(shards: u8) -> Self {
        Self {
            shards,
            dead: BTreeSet::new(),
            next: 1,
            open: BTreeMap::new(),
        }
    }

    /// Opens a question; the id goes with the command to every shard.
    pub fn ask(&mut self, now: Instant, asker: T) -> u64 {
        let id = self.next;
        self.next += 1;
        let all = (0..self.shards).map(ShardId);
        let (missing, waiting) = all.partition(|shard| self.dead.contains(shard));
        let question = Question {
            asker,
            deadline: now + ANSWER_WITHIN,
            waiting,
            missing,
            stats: Stats::default(),
            pools: BTreeMap::new(),
            count: 0,
            failure: None,
            text: BTreeMap::new(),
            text_bytes: 0,
            truncated: false,
        };
        self.open.insert(id, question);
        id
    }

    /// Takes one shard's reply. Replies to questions already answered are dropped.
    pub fn reply(&mut self, now: Instant, shard: ShardId, id: u64, reply: Reply) {
        let Some(question) = self.open.get_mut(&id) else {
            return;
        };
        if !question.waiting.contains(&shard) {
            return;
        }
        let more = match reply {
            Reply::Text { lines, more } => {
                question.add_text(shard, lines);
                more
            }
            Reply::Stats(stats) => {
                question.stats.add(&stats);
                false
            }
            Reply::Pools(pools) => {
                for (net, leased) in pools {
                    *question.pools.entry(net).or_default() += leased;
                }
                false
            }
            Reply::Failed(reason) => {
                question.failure.get_or_insert(reason);
                false
            }
            Reply::Done { count } => {
                question.count += count;
                false
            }
        };
        if more {
            // A long answer may take longer than the deadline, while it goes on.
            question.deadline = now + ANSWER_WITHIN;
        } else {
            question.waiting.remove(&shard);
        }
    }

    /// A shard ended: nobody waits for it any more.
    pub fn ended(&mut self, shard: ShardId) {
        self.dead.insert(shard);
        for question in self.open.values_mut() {
            if question.waiting.remove(&shard) {
                question.missing.insert(shard);
            }
        }
    }

    /// Takes one question that all shards answered or whose time is over.
    pub fn take(&mut self, now: Instant) -> Option<(T, Answer)> {
        let ready =
            |question: &Question<T>| question.waiting.is_empty() || question.deadline <= now;
        let id = self
            .open
            .iter()
            .find(|(_, question)| ready(question))
            .map(|(&id, _)| id)?;
        let question = self.open.remove(&id)?;
        Some(question.finish())
    }

    /// When [`Self::take`] next has something although nothing comes in.
    pub fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|question| question.deadline).min()
    }

    /// Questions that wait.
    pub fn waiting(&self) -> usize {
        self.open.len()
    }
}

impl<T> Question<T> {
    fn add_text(&mut self, shard: ShardId, lines: Vec<String>) {
        let kept = self.text.entry(shard).or_default();
        for line in lines {
            self.text_bytes += line.len();
            if self.text_bytes > TEXT_MAX {
                self.truncated = true;
                return;
            }
            kept.push(line);
        }
    }

    fn finish(mut self) -> (T, Answer) {
        self.missing.extend(self.waiting);
        let answer = Answer {
            lines: merge(self.text.into_values()),
            stats: self.stats,
            pools: self.pools,
            count: self.count,
            failure: self.failure,
            missing: self.missing.into_iter().collect(),
            truncated: self.truncated,
        };
        (self.asker, answer)
    }
}

/// All lines of the first section, then all of the second: each shard writes all sections, and
/// the reader wants them as if there were one shard. An SPI of ours begins with its shard, so shard
/// after shard is the order of SPIs.
fn merge(parts: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let mut sections: [Vec<String>; SECTIONS.len() + 1] = Default::default();
    for part in parts {
        let mut at = SECTIONS.len();
        for line in part {
            if !line.starts_with(' ') {
                let known = SECTIONS.iter().position(|label| line.starts_with(label));
                at = known.unwrap_or(SECTIONS.len());
            }
            if let Some(section) = sections.get_mut(at) {
                section.push(line);
            }
        }
    }
    sections.into_iter().flatten().collect()
}

/// The sections of `show sa`, in OpenIKED's order; indented lines belong to the line above.
const SECTIONS: [&str; 4] = [
    "iked_sas:",
    "iked_activesas:",
    "iked_flows:",
    "iked_dstid_sas:",
];
/// How long a shard may take. A shard's turn lasts milliseconds, so a shard that needs longer has
/// a fault.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of text kept for one question: some 200,000 IKE SAs.
const TEXT_MAX: usize = 128 << 20;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from one reading of the clock"
)]
mod tests {
    use super::*;

    fn text(lines: &[&str], more: bool) -> Reply {
        Reply::Text {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            more,
        }
    }

    #[test]
    fn counters_of_all_shards_are_summed() {
        let now = Instant::now();
        let mut gather = Gather::new(2);
        let id = gather.ask(now, "asker");
        for shard in [1, 0] {
            assert!(gather.take(now).is_none());
            let stats = Stats {
                msg_sent: 5,
                ..Stats::default()
            };
            gather.reply(now, ShardId(shard), id, Reply::Stats(Box::new(stats)));
        }
        let (asker, answer) = gather.take(now).unwrap();
        assert_eq!((asker, answer.stats.msg_sent), ("asker", 10));
        assert_eq!(answer.complaint(), None);
        assert_eq!(gather.waiting(), 0);
    }

    #[test]
    fn silent_shards_are_named_after_the_deadline() {
        let now = Instant::now();
        let mut gather = Gather::new(4);
        let id = gather.ask(now, ());
        gather.reply(now, ShardId(0), id, Reply::Done { count: 1 });
        gather.reply(now, ShardId(2), id, Reply::Done { count: 2 });
        assert_eq!(gather.deadline(), Some(now + ANSWER_WITHIN));
        assert!(gather.take(now + ANSWER_WITHIN / 2).is_none());
        let ((), answer) = gather.take(now + ANSWER_WITHIN).unwrap();
        assert_eq!(answer.count, 3);
        assert_eq!(answer.complaint().unwrap(), "no answer from shard 1, 3");
        gather.reply(now, ShardId(1), id, Reply::Done { count: 9 });
        assert!(
            gather.take(now + ANSWER_WITHIN).is_none(),
            "too late, nobody asks any more"
        );
    }

    #[test]
    fn a_long_answer_moves_the_deadline() {
        let now = Instant::now();
        let mut gather = Gather::new(1);
        let id = gather.ask(now, ());
        let later = now + ANSWER_WITHIN / 2;
        gather.reply(later, ShardId(0), id, text(&["iked_sas: a"], true));
        assert!(gather.take(now + ANSWER_WITHIN).is_none());
        gather.reply(
            now + ANSWER_WITHIN,
            ShardId(0),
            id,
            text(&["iked_sas: b"], false),
        );
        let ((), answer) = gather.take(now + ANSWER_WITHIN).unwrap();
        assert_eq!(answer.lines, ["iked_sas: a", "iked_sas: b"]);
    }

    #[test]
    fn sections_come_together_and_indented_lines_stay_with_their_sa() {
        let now = Instant::now();
        let mut gather = Gather::new(2);
        let id = gather.ask(now, ());
        gather.reply(
            now,
            ShardId(1),
            id,
            text(&["iked_sas: c", "  sa_flows: d", "other"], false),
        );
        gather.reply(
            now,
            ShardId(0),
            id,
            text(&["iked_sas: a", "  sa_childsas: b", "iked_flows: f"], false),
        );
        let ((), answer) = gather.take(now).unwrap();
        let order = [
            "iked_sas: a",
            "  sa_childsas: b",
            "iked_sas: c",
            "  sa_flows: d",
            "iked_flows: f",
            "other",
        ];
        assert_eq!(answer.lines, order);
    }

    #[test]
    fn a_shard_that_ended_is_not_waited_for() {
        let now = Instant::now();
        let mut gather = Gather::new(2);
        let id = gather.ask(now, 1);
        gather.reply(now, ShardId(0), id, Reply::Done { count: 0 });
        gather.ended(ShardId(1));
        assert_eq!(gather.take(now).unwrap().1.missing, [ShardId(1)]);
        let id = gather.ask(now, 2);
        gather.reply(now, ShardId(0), id, Reply::Done { count: 0 });
        assert_eq!(gather.take(now).unwrap().1.missing, [ShardId(1)]);
    }

    #[test]
    fn one_shard_answering_twice_does_not_stand_for_another() {
        let now = Instant::now();
        let mut gather = Gather::new(2);
        let id = gather.ask(now, ());
        for _ in 0..2 {
            gather.reply(now, ShardId(0), id, Reply::Done { count: 1 });
        }
        assert!(gather.take(now).is_none());
        gather.reply(now, ShardId(1), id, Reply::Done { count: 1 });
        assert_eq!(gather.take(now).unwrap().1.count, 2);
    }

    #[test]
    fn more_text_than_fits_is_cut_and_said_so() {
        let now = Instant::now();
        let mut gather = Gather::new(1);
        let id = gather.ask(now, ());
        let line = "x".repeat(TEXT_MAX / 2);
        gather.reply(now, ShardId(0), id, text(&[&line, &line, "y"], false));
        let ((), answer) = gather.take(now).unwrap();
        assert!(answer.truncated);
        assert_eq!(answer.lines.len(), 2);
    }
}
