//! `iked`: hands the command line to the daemon and says how it ended.

use std::process::ExitCode;

fn main() -> ExitCode {
    match iked::daemon::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            use std::io::Write;
            // If stderr is gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}
