//! The form that an answer takes on the way to a client.

use serde_json::{Map, Value};

use super::connection::Connection;
use super::gather::Answer;
use super::imsg::{Kind, PAYLOAD_MAX};

/// In which form an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Lines of text in frames of this kind.
    Lines(Kind),
    /// OpenIKED's 26 counters in one frame of this kind.
    Stats(Kind),
    /// Every counter as text in frames of this kind.
    Counters(Kind),
    /// Every counter as JSON.
    CountersJson,
    /// The pools.
    Pools {
        /// For programs.
        json: bool,
    },
    /// Done or not.
    Done,
}

/// Sends what all shards said, in the form that was asked for.
pub(super) fn give(connection: &mut Connection, form: Form, answer: Answer) {
    let complaint = answer.complaint();
    match form {
        Form::Lines(kind) => {
            let mut lines = answer.lines;
            if answer.truncated {
                lines.push("iked: more lines than can be shown".to_owned());
            }
            lines.extend(complaint.map(|complaint| format!("iked: {complaint}")));
            connection.send_lines(kind, lines);
        }
        Form::Stats(kind) => {
            let rows = answer.stats.rows();
            let counters = rows.iter().take(STATS_COUNT);
            connection.send(
                kind,
                counters
                    .flat_map(|(_, value)| value.to_ne_bytes())
                    .collect(),
            );
        }
        Form::Counters(kind) => {
            let rows = answer.stats.rows();
            let mut lines: Vec<String> = rows
                .iter()
                .map(|(name, value)| format!("{value} {name}"))
                .collect();
            lines.push(format!("{} shards_missing", answer.missing.len()));
            connection.send_lines(kind, lines);
        }
        Form::CountersJson => {
            let rows = answer.stats.rows().into_iter();
            let counters: Map<_, _> = rows
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            connection.send_lines(Kind::SHOW, vec![Value::Object(counters).to_string()]);
        }
        // The server has the configuration for it.
        Form::Pools { .. } => {}
        Form::Done => send_result(connection, complaint.map_or(Ok(()), Err)),
    }
}

/// Sends that it is done, or why not.
pub(super) fn send_result(connection: &mut Connection, result: Result<(), String>) {
    match result {
        Ok(()) => connection.send(Kind::OK, Vec::new()),
        Err(reason) => {
            let mut payload = reason.into_bytes();
            payload.truncate(PAYLOAD_MAX);
            connection.send(Kind::FAIL, payload);
        }
    }
}

/// Sends lines that our `ikectl` asked for, or why there are none.
pub(super) fn send_shown(connection: &mut Connection, lines: Result<Vec<String>, String>) {
    match lines {
        Ok(lines) => connection.send_lines(Kind::SHOW, lines),
        Err(reason) => send_result(connection, Err(reason)),
    }
}

/// Counters in OpenIKED's frame, whose client insists on the size.
pub(super) const STATS_COUNT: usize = 26;
