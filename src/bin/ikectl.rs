//! `ikectl`: puts one request to a running `iked`.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use iked::ca::{self, CaError};
use iked::control::SOCKET;
use iked::control::client::{self, ClientError};
use iked::control::grammar::Command;

fn main() -> ExitCode {
    let mut stdout = BufWriter::new(io::stdout().lock());
    let result = run(std::env::args().skip(1).collect(), &mut stdout);
    let result = result.and_then(|()| stdout.flush().map_err(|error| error.to_string()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // What came before the fault is shown before it.
            let _ = stdout.flush();
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>, out: &mut impl Write) -> Result<(), String> {
    let (mut quiet, mut json) = (false, false);
    let mut socket = PathBuf::from(SOCKET);
    let mut authorities = PathBuf::from(ca::FOLDER);
    let mut arguments = arguments.into_iter().peekable();
    while let Some(option) = arguments.next_if(|word| word.len() > 1 && word.starts_with('-')) {
        if option == "--" {
            break;
        }
        if option == "--json" {
            json = true;
            continue;
        }
        if option == "--ssl-dir" {
            authorities = arguments.next().map(PathBuf::from).ok_or(USAGE)?;
            continue;
        }
        // Letters may stand together, and `-s` takes the rest of its word or the next word.
        let mut letters = option.chars().skip(1);
        while let Some(letter) = letters.next() {
            match letter {
                'q' => quiet = true,
                's' => {
                    let rest: String = letters.by_ref().collect();
                    let path = if rest.is_empty() {
                        arguments.next()
                    } else {
                        Some(rest)
                    };
                    socket = path.map(PathBuf::from).ok_or(USAGE)?;
                }
                _ => return Err(USAGE.to_owned()),
            }
        }
    }
    let words: Vec<String> = arguments.collect();
    let request = match Command::parse(&words).map_err(|error| error.to_string())? {
        Command::Ask(request) => request,
        Command::Ca(command) => return run_ca(&command, &authorities, json, out),
    };
    let result = match (json, request.as_json()) {
        (false, _) => client::run(&socket, quiet, &request, out),
        (true, Some(query)) => client::run_json(&socket, &query, out),
        (true, None) => {
            return Err("ikectl: --json: only show and explain have an answer".to_owned());
        }
    };
    match result {
        Ok(()) => Ok(()),
        // Whoever read our output has had enough.
        Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(format!("ikectl: {}", describe(&error.to_string()))),
    }
}

/// `ca` and `show ca`, for which no daemon is needed.
fn run_ca(
    command: &ca::request::Command,
    folder: &Path,
    json: bool,
    out: &mut impl Write,
) -> Result<(), String> {
    let mut bench = ca::Bench {
        folder,
        here: &std::env::current_dir().map_err(|error| format!("ikectl: {error}"))?,
        prompt: &mut ca::Terminal,
        json,
    };
    match ca::run(command, &mut bench, out) {
        Ok(()) => Ok(()),
        Err(CaError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(format!("ikectl: {}", describe(&error.to_string()))),
    }
}

/// As `strerror(3)` says it, without Rust's "(os error N)".
fn describe(text: &str) -> &str {
    match text.rfind(" (os error ") {
        Some(at) => text.get(..at).unwrap_or(text),
        None => text,
    }
}

const USAGE: &str = "usage: ikectl [-q] [--json] [-s socket] [--ssl-dir dir] command [arg ...]";
