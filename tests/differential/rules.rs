//! Where we differ from OpenIKED by intent, each with its reason.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::programs::Dump;

/// A file that one of both refuses.
pub(super) struct Verdict {
    pub name: &'static str,
    pub reason: &'static str,
    pub ours_accepts: bool,
    pub applies: fn(&str, &Dump, &Dump) -> bool,
}

/// Something that both dump differently.
pub(super) struct Dumped<T: 'static> {
    pub name: &'static str,
    pub reason: &'static str,
    /// Takes the difference away; true if there was one.
    pub level: fn(&mut T, &mut T) -> bool,
}

type Line = Vec<String>;

pub(super) const VERDICTS: &[Verdict] = &[
    Verdict {
        name: "a file that OpenIKED dies of",
        reason: "it prints what it cannot name, for instance a cipher of `childsa` without a word, \
                 and is killed by a signal; here the file is read",
        ours_accepts: true,
        applies: |_, theirs, _| theirs.crashed,
    },
    Verdict {
        name: "`active` with `local any`",
        reason: "to write `any` is the same as to leave `local` out, which OpenIKED takes",
        ours_accepts: true,
        applies: |_, theirs, _| theirs.says("active mode requires local/peer address"),
    },
    Verdict {
        name: "`dstid` before `srcid`",
        reason: "both orders are taken, as iked.conf(5) describes them",
        ours_accepts: true,
        applies: |text, theirs, _| {
            theirs.says("syntax error")
                && text
                    .find("dstid")
                    .zip(text.find("srcid"))
                    .is_some_and(|(dst, src)| dst < src)
        },
    },
    Verdict {
        name: "names that OpenIKED does not have",
        reason: "`ikesa` has chacha20-poly1305 (RFC 7634)",
        ours_accepts: true,
        applies: |text, theirs, _| {
            text.contains("ikesa enc chacha20") && theirs.says("not a valid transform")
        },
    },
    Verdict {
        name: "a name with addresses of both families",
        reason: "the first address of the policy's family is taken for `local` and `peer`; OpenIKED takes the \
                 first, whatever it is, and ends if that does not fit",
        ours_accepts: true,
        applies: |text, theirs, _| {
            text.contains("both.test") && theirs.says("address family mismatch")
        },
    },
    Verdict {
        name: "a name of IPv6 with a prefix length",
        reason: "is a network, as one of IPv4; OpenIKED ends",
        ours_accepts: true,
        applies: |_, theirs, _| theirs.says("cannot apply netmask"),
    },
    Verdict {
        name: "a prefix longer than the address",
        reason: "10.0.0.0/33 is no network; OpenIKED takes up to /128 for both families",
        ours_accepts: false,
        applies: |_, _, ours| ours.says("bad prefix length"),
    },
    Verdict {
        name: "a size with something behind its unit",
        reason: "`bytes 512Mx` is a slip; OpenIKED does not look at what follows",
        ours_accepts: false,
        applies: |_, _, ours| ours.says("invalid byte specification"),
    },
    Verdict {
        name: "a negative time",
        reason: "`lifetime -5` cannot be kept",
        ours_accepts: false,
        applies: |text, _, _| text.contains("lifetime -"),
    },
    Verdict {
        name: "an empty key",
        reason: "`psk \"0x\"` is what a script writes whose variable is empty",
        ours_accepts: false,
        applies: |_, _, ours| ours.says("empty pre-shared key"),
    },
    Verdict {
        name: "families that do not go together",
        reason: "a policy of `inet` with the addresses of IPv6 alone can never be used",
        ours_accepts: false,
        applies: |_, _, ours| ours.says("address family mismatch"),
    },
];

pub(super) const FILES: &[Dumped<Vec<Line>>] = &[
    Dumped {
        name: "`set`",
        reason: "what is not as by default is shown",
        level: |_, ours| {
            let before = ours.len();
            ours.retain(|line| line[0] != "set");
            ours.len() != before
        },
    },
    Dumped {
        name: "`user`",
        reason: "users come before policies, and each once, with its last password",
        level: |theirs, ours| sort_users(theirs) | sort_users(ours),
    },
    Dumped {
        name: "a second default policy",
        reason: "only the last is shown, for it replaces the one before",
        level: |theirs, _| {
            let is_default = |line: &Line| line.iter().any(|word| word == "default");
            let last = theirs.iter().rposition(is_default);
            let before = theirs.len();
            let mut at = 0;
            theirs.retain(|line| {
                at += 1;
                !is_default(line) || Some(at - 1) == last
            });
            theirs.len() != before
        },
    },
];

pub(super) const POLICIES: &[Dumped<Line>] = &[
    Dumped {
        name: "addresses with all of their length",
        reason: "10.0.0.1/32 is shown as 10.0.0.1",
        level: |theirs, _| {
            shorten(theirs, |word| {
                let whole = if word.contains(':') { "/128" } else { "/32" };
                word.strip_suffix(whole)
            })
        },
    },
    Dumped {
        name: "a name with a prefix length",
        reason: "is the network around its address, with the length; OpenIKED forgets the length",
        level: |theirs, ours| {
            let mut found = false;
            for word in ours {
                let host = word.split_once('/').map(|(host, _)| host.to_owned());
                let is_named = |host: &String| {
                    host.starts_with("192.0.2.4") || host.starts_with("2001:db8::4")
                };
                let forgot = |host: &String| theirs.contains(host) && !theirs.contains(word);
                if let Some(host) = host.filter(is_named).filter(forgot) {
                    *word = host;
                    found = true;
                }
            }
            found
        },
    },
    Dumped {
        name: "several `from .. to ..` with a name of several addresses",
        reason: "each goes through its own addresses; OpenIKED puts those of all into two lists, so that addresses \
                 of one go together with those of another",
        level: |theirs, ours| {
            let mixed = ["10.1.0.2", "to", "192.0.2.43"];
            let at = theirs.windows(3).position(|three| three == mixed);
            let meant = at.filter(|at| ours.get(at + 2).is_some_and(|word| word == "10.2.0.2"));
            if let Some(at) = meant {
                theirs[at + 2] = ours[at + 2].clone();
            }
            meant.is_some()
        },
    },
    Dumped {
        name: "a port behind a name with several addresses",
        reason: "holds for each; for OpenIKED for the first",
        level: |theirs, ours| {
            let mut found = false;
            for second in ["192.0.2.43", "2001:db8::45"] {
                let ported = |line: &Line| {
                    let with_port = |two: &[String]| two[0] == second && two[1] == "port";
                    line.windows(2).position(with_port)
                };
                while let (None, Some(at)) = (ported(theirs), ported(ours)) {
                    ours.drain(at + 1..at + 3);
                    found = true;
                }
            }
            found
        },
    },
    Dumped {
        name: "source NAT",
        reason: "`from A (B)` is shown as written; OpenIKED shows A alone",
        level: |_, ours| {
            let before = ours.len();
            ours.retain(|word| !word.starts_with('('));
            ours.len() != before
        },
    },
    Dumped {
        name: "`config` and `request` with a name",
        reason: "the first address of the name; OpenIKED sends the others as an attribute of number 0",
        level: |theirs, _| {
            let mut found = false;
            while let Some(at) = theirs.iter().position(|word| word == "unknown") {
                theirs.drain(at - 1..(at + 2).min(theirs.len()));
                found = true;
            }
            found
        },
    },
    Dumped {
        name: "`dynamic`",
        reason: "shown as written, not as 0.0.0.0 or ::",
        level: |theirs, ours| {
            let is_dynamic = ours.iter().any(|word| word == "dynamic");
            is_dynamic
                && shorten(theirs, |word| {
                    ["0.0.0.0", "::"].contains(&word).then_some("dynamic")
                })
        },
    },
    Dumped {
        name: "a port beside `any` or `dynamic`",
        reason: "is kept; OpenIKED forgets it",
        level: |_, ours| {
            let wide = |word: &String| ["dynamic", "0.0.0.0/0", "::/0"].contains(&word.as_str());
            let mut found = false;
            while let Some(at) = ours
                .windows(2)
                .position(|two| wide(&two[0]) && two[1] == "port")
            {
                ours.drain(at + 1..at + 3);
                found = true;
            }
            found
        },
    },
    Dumped {
        name: "the order of flows",
        reason: "as written; OpenIKED sorts them",
        level: |theirs, ours| sort_flows(theirs) | sort_flows(ours),
    },
    Dumped {
        name: "`proto`",
        reason: "stands where the grammar has it, behind the family, and not at all for 0",
        level: |theirs, ours| {
            let (mut their_rest, mut our_rest) = (theirs.clone(), ours.clone());
            let (their_list, zero) = take_protocols(&mut their_rest);
            let same = their_list == take_protocols(&mut our_rest).0;
            let moved = zero || !their_list.is_empty();
            if same {
                (*theirs, *ours) = (their_rest, our_rest);
            }
            same && moved
        },
    },
    Dumped {
        name: "`local` and `peer` of a default policy",
        reason: "are shown",
        level: |theirs, ours| {
            let at = |line: &Line| line.iter().position(|word| word == "local");
            match (at(theirs), at(ours)) {
                (None, Some(at)) if ours.iter().any(|word| word == "default") => {
                    ours.drain(at..at + 4);
                    true
                }
                _ => false,
            }
        },
    },
    Dumped {
        name: "a transform that is written twice",
        reason: "is offered once",
        level: |theirs, ours| unique_transforms(theirs) | unique_transforms(ours),
    },
    Dumped {
        name: "a proposal that is written twice",
        reason: "is offered once",
        level: |theirs, ours| unique_proposals(theirs, ours),
    },
    Dumped {
        name: "`srcid` where none is written",
        reason: "the host's name is shown, for that is what is sent",
        level: |theirs, ours| {
            let at = ours.iter().position(|word| word == "srcid");
            let is_host = |at: &usize| ours.get(at + 1) == Some(&host_name());
            let Some(at) = at
                .filter(is_host)
                .filter(|_| !theirs.iter().any(|w| w == "srcid"))
            else {
                return false;
            };
            ours.drain(at..at + 2);
            true
        },
    },
    Dumped {
        name: "default `ikesa`",
        reason: "has chacha20-poly1305 as its last AEAD cipher",
        level: |theirs, ours| {
            let chacha = ["prf", "chacha20-poly1305", "enc"];
            let has = |line: &Line| ike(line).iter().any(|word| word == chacha[1]);
            if has(theirs) || !has(ours) {
                return false;
            }
            while let Some(at) = ike(ours).iter().position(|word| word == chacha[1]) {
                ours.drain(at - 1..=at);
            }
            true
        },
    },
    Dumped {
        name: "ciphers of `ah`",
        reason: "are not offered, for AH does not encrypt; OpenIKED offers them",
        level: |theirs, _| {
            let is_ah = is_ah(theirs);
            let mut found = false;
            while let Some(at) = theirs[ike(theirs).len()..]
                .iter()
                .position(|word| word == "enc")
                && is_ah
            {
                let at = ike(theirs).len() + at;
                theirs.drain(at..at + 2);
                found = true;
            }
            found
        },
    },
    Dumped {
        name: "default and AEAD `childsa`",
        reason: "OpenIKED's on OpenBSD (AEAD first, SHA2-256, ESN), not those of its Linux port, which \
                 has no AEAD: what is written there gives a policy without any proposal",
        level: |theirs, ours| {
            let (mut their_rest, mut our_rest) = (theirs.clone(), ours.clone());
            let (their_list, our_list) =
                (take_childsas(&mut their_rest), take_childsas(&mut our_rest));
            let ported: Vec<_> = our_list.iter().filter_map(on_linux).collect();
            let fits = |(theirs, ported): (&Line, &[Line; 2])| ported.contains(theirs);
            let known = |theirs: &Line| ported.iter().any(|ported| ported.contains(theirs));
            // Of AH we show no cipher, so it does not show where theirs was an AEAD.
            let meant = if is_ah(theirs) {
                their_list.iter().all(known)
            } else {
                their_list.len() == ported.len() && their_list.iter().zip(&ported).all(fits)
            };
            if meant {
                (*theirs, *ours) = (their_rest, our_rest);
            }
            meant && their_list != our_list
        },
    },
    Dumped {
        name: "`tap enc0`",
        reason: "is shown",
        level: |theirs, ours| {
            let enc0 = ["tap", "enc0"];
            let shown =
                ours.ends_with(&enc0.map(str::to_owned)) && !theirs.contains(&enc0[0].to_owned());
            if shown {
                ours.truncate(ours.len() - 2);
            }
            shown
        },
    },
    Dumped {
        name: "`config` with a prefix length",
        reason: "shows it, for it makes the difference between a pool and an address",
        level: |_, ours| {
            let Some(start) = ours.iter().position(|word| word == "lifetime") else {
                return false;
            };
            let mut tail = ours.split_off(start);
            let found = shorten(&mut tail, |word| {
                let (address, length) = word.split_once('/')?;
                length.parse::<u8>().ok().map(|_| address)
            });
            ours.extend(tail);
            found
        },
    },
    Dumped {
        name: "`config` and `request`",
        reason: "by name, `config` first; OpenIKED 7.2 calls all `config` and 7.4 all `request` as soon as \
                 one is",
        level: |theirs, ours| sort_attributes(theirs) | sort_attributes(ours),
    },
];

/// Users first, by name, with their last passwords.
fn sort_users(lines: &mut Vec<Line>) -> bool {
    let before = lines.clone();
    let (users, policies): (Vec<_>, Vec<_>) = lines.drain(..).partition(|line| line[0] == "user");
    let users: BTreeMap<String, Line> = users
        .into_iter()
        .map(|line| (line[1].clone(), line))
        .collect();
    lines.extend(users.into_values().chain(policies));
    *lines != before
}

/// Replaces words; true if it did.
fn shorten(line: &mut Line, short: impl Fn(&str) -> Option<&str>) -> bool {
    let mut found = false;
    for word in line {
        if let Some(short) = short(word).map(str::to_owned) {
            *word = short;
            found = true;
        }
    }
    found
}

/// Takes the protocols out: those, and whether it was only the zero.
fn take_protocols(line: &mut Line) -> (Line, bool) {
    let Some(at) = line.iter().position(|word| word == "proto") else {
        return (Line::new(), false);
    };
    let end = line[at..]
        .iter()
        .position(|word| word == "}")
        .map_or(2, |end| end + 1);
    let taken: Line = line.drain(at..at + end).collect();
    let names = taken.iter().map(|word| word.trim_end_matches(','));
    let names: Line = names
        .filter(|word| !["proto", "{", "}"].contains(word))
        .map(str::to_owned)
        .collect();
    let zero = names == ["0"];
    (if zero { Line::new() } else { names }, zero)
}

/// Takes repeated transforms out of proposals.
fn unique_transforms(line: &mut Line) -> bool {
    let Some(start) = line.iter().position(is_proposal) else {
        return false;
    };
    let mut unique = Line::new();
    let all = proposals(line);
    let words: Line = line.drain(start..proposals_end(line)).collect();
    for proposal in &all {
        unique.push(proposal[0].clone());
        let mut seen: Vec<&[String]> = Vec::new();
        for transform in transforms(proposal) {
            if !seen.contains(&transform) {
                seen.push(transform);
                unique.extend_from_slice(transform);
            }
        }
    }
    let found = unique != words;
    line.splice(start..start, unique);
    found
}

/// Takes repeated proposals out of theirs where we have fewer.
fn unique_proposals(theirs: &mut Line, ours: &Line) -> bool {
    let (their_list, our_list) = (proposals(theirs), proposals(ours));
    let count = |kind: &str, list: &[Line]| {
        let kept = |proposal: &&Line| {
            proposal[0] == kind && (kind == "ikesa" || on_linux(proposal).is_some())
        };
        list.iter().filter(kept).count()
    };
    let mut unique: Vec<Line> = Vec::new();
    for proposal in &their_list {
        let kind = proposal[0].as_str();
        let more = count(kind, &their_list) > count(kind, &our_list);
        if !more || !unique.contains(proposal) {
            unique.push(proposal.clone());
        }
    }
    let found = unique.len() < their_list.len();
    if let (true, Some(start)) = (found, theirs.iter().position(is_proposal)) {
        theirs.splice(start..proposals_end(theirs), unique.concat());
    }
    found
}

fn is_proposal(word: &String) -> bool {
    word == "ikesa" || word == "childsa"
}

/// All proposals, in order.
fn proposals(line: &Line) -> Vec<Line> {
    let Some(start) = line.iter().position(is_proposal) else {
        return Vec::new();
    };
    let words = &line[start..proposals_end(line)];
    let chunks = words.chunk_by(|_, next| !is_proposal(next));
    chunks.map(<[String]>::to_vec).collect()
}

/// The transforms of a proposal: a kind and a name, or `esn` or `noesn` alone.
fn transforms(proposal: &[String]) -> impl Iterator<Item = &[String]> {
    let mut rest = &proposal[1..];
    std::iter::from_fn(move || {
        let alone = rest.first()?.ends_with("esn");
        let (transform, more) = rest.split_at(if alone { 1 } else { 2 });
        rest = more;
        Some(transform)
    })
}

/// Where the words behind all proposals begin.
fn proposals_end(line: &Line) -> usize {
    let ends = ["srcid", "dstid", "ikelifetime", "lifetime"];
    let end = line.iter().position(|word| ends.contains(&word.as_str()));
    end.unwrap_or(line.len())
}

/// Sorts the `config` and `request` entries.
fn sort_attributes(line: &mut Line) -> bool {
    let is_word = |word: &String| word == "config" || word == "request";
    let Some(start) = line.iter().position(is_word) else {
        return false;
    };
    let end = line.iter().rposition(is_word).map_or(start, |at| at + 3);
    let words: Line = line.drain(start..end.min(line.len())).collect();
    let mut entries: Vec<Line> = words.chunks(3).map(<[String]>::to_vec).collect();
    for entry in &mut entries {
        entry[0] = "config".to_owned();
    }
    entries.sort();
    let sorted = entries.concat();
    let found = sorted != words;
    line.splice(start..start, sorted);
    found
}

/// The words of the `ikesa` proposals.
fn ike(line: &Line) -> &[String] {
    let end = line
        .iter()
        .position(|word| word == "childsa")
        .unwrap_or(line.len());
    &line[..end]
}

/// Takes the `childsa` proposals out.
fn take_childsas(line: &mut Line) -> Vec<Line> {
    let Some(start) = line.iter().position(|word| word == "childsa") else {
        return Vec::new();
    };
    let end = proposals_end(line);
    let taken: Line = line.drain(start..end).collect();
    taken
        .chunk_by(|_, next| next != "childsa")
        .map(<[String]>::to_vec)
        .collect()
}

fn is_ah(line: &Line) -> bool {
    let flags = line.iter().take_while(|word| *word != "from");
    flags.skip(2).any(|word| word == "ah")
}

/// What the Linux port makes of a `childsa` proposal: none of one with an AEAD cipher, and of defaults
/// neither SHA2-256 nor ESN. What is written as the default is looks like it, hence two answers.
fn on_linux(proposal: &Line) -> Option<[Line; 2]> {
    let aead = |word: &String| {
        word.contains("gcm") || word.contains("gmac") || word.contains("chacha20-poly1305")
    };
    if proposal.iter().any(aead) {
        return None;
    }
    let text = proposal.join(" ");
    let text = text.replace(
        "auth hmac-sha2-256 auth hmac-sha2-384 auth hmac-sha2-512 auth hmac-sha1",
        "auth hmac-sha2-384 auth hmac-sha2-512 auth hmac-sha1",
    );
    let short = text.strip_suffix(" esn noesn");
    let short = short.map_or_else(|| text.clone(), |rest| format!("{rest} noesn"));
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    Some([words(&short), words(&text)])
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    name.trim_end().to_owned()
}

/// The words from one `from` to the end of its flow.
fn sort_flows(line: &mut Line) -> bool {
    let Some(start) = line.iter().position(|word| word == "from") else {
        return false;
    };
    let Some(length) = line[start..]
        .iter()
        .position(|word| word == "local" || word == "ikesa")
    else {
        return false;
    };
    let flows: Line = line.splice(start..start + length, []).collect();
    let mut flows: Vec<&[String]> = flows.chunk_by(|_, next| next != "from").collect();
    let before = flows.clone();
    flows.sort();
    flows.dedup();
    let sorted = flows != before;
    let flows: Line = flows.concat();
    line.splice(start..start, flows);
    sorted
}

/// The names of all differences.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let verdicts = VERDICTS.iter().map(|rule| rule.name);
    let files = FILES.iter().map(|rule| rule.name);
    verdicts
        .chain(files)
        .chain(POLICIES.iter().map(|rule| rule.name))
}

/// docs/DIFFERENCES.md.
pub(super) fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    text +=
        "## Files that one of both refuses\n\n| File | Verdict here | Reason |\n|---|---|---|\n";
    for rule in VERDICTS {
        let verdict = if rule.ours_accepts {
            "taken"
        } else {
            "refused"
        };
        let _ = writeln!(text, "| {} | {verdict} | {} |", rule.name, rule.reason);
    }
    text += "\n## What `iked -nv` shows differently\n\n| What | Here |\n|---|---|\n";
    for rule in FILES {
        let _ = writeln!(text, "| {} | {} |", rule.name, rule.reason);
    }
    for rule in POLICIES {
        let _ = writeln!(text, "| {} | {} |", rule.name, rule.reason);
    }
    text + EFFECTS
}

/// What no dump shows.
const EFFECTS: &str = "
## What is read alike and does something else on Linux

| Clause | Here |
|---|---|
| `from A (B)` | A is agreed with the peer. Packets of B go into the tunnel too, so none leaves past it; a rule of the \
firewall (`nft add rule nat postrouting ip saddr B snat to A`) makes them come from A. What comes in must be for A |
| `tag \"NUMBER\"` | a decimal or `0x` number is the mark of packets that came through the tunnel (`meta mark`, \
`-m mark`). Packets that leave get none: routes by mark would send ESP elsewhere |
| `tag` with a word | no effect: Linux has no packet tags of pf(4); a warning names file and line |
| `tap` | no effect: enc(4) shows decrypted packets, and Linux shows them on the device that ESP came in by. An XFRM \
interface would also want routes that an iked.conf of OpenBSD does not have, and without them carry nothing; a warning names file \
and line |
| `iface` | has the addresses that we are given, with their prefix; routes are in table 210 and name servers with resolvectl, as with \
OpenIKED, but rule, routes and name servers are there only as long as they are needed, and taken away after a crash. An XFRM interface makes a VPN by \
routes, as sec(4) does on newer OpenBSD: its if_id is that of the SAs and policies |
| `rdomain` | an error, as on every system but OpenBSD |
| names of hosts | are asked for all at once when the file is read, at start and by a reload, for ten seconds at most. Without an \
answer the file is refused, and after a reload the old configuration stays |
";

const INTRODUCTION: &str = "# Differences from OpenIKED in iked.conf(5)

A file written for OpenIKED means the same here. `tests/differential.rs` gives thousands of files to
`iked -nv` of OpenIKED 7.2 and 7.4 and to ours, and wants the same verdict and the same dump but for what
is listed here. Generated; `IKED_UPDATE_OUTPUTS=1 cargo test --test differential document`.

";
