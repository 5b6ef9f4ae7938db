//! ikeload: synthetic IKEv2 initiators by the thousand, against any responder.
//!
//! A run must have the ports 500 and 4500 of its network namespace for itself, and every source
//! address must be one of its own (`ip route add local 10.64.0.0/10 dev lo` makes a whole network
//! such). It loads no SA into any kernel. Ends with 0 if all peers came up and stayed, with 1 if
//! not, and with 2 if there was no run.

use std::process::ExitCode;

use clap::Parser;
use ikeload::bars::Bars;
use ikeload::run::{Arguments, Error, run, write_credentials};

#[expect(clippy::print_stderr, reason = "what the program is for")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match good(&arguments) {
        Ok(good) => ExitCode::from(u8::from(!good)),
        Err(error) => {
            eprintln!("ikeload: {error}");
            ExitCode::from(2)
        }
    }
}

/// Does what was asked; whether it went well.
#[expect(clippy::print_stdout, reason = "what the program is for")]
fn good(arguments: &Arguments) -> Result<bool, Error> {
    if let Some(folder) = &arguments.write_credentials {
        write_credentials(arguments, folder)?;
        return Ok(true);
    }
    if arguments.bars {
        let bars = Bars::read(&arguments.scenario)?;
        bars.write(&arguments.scenario)?;
        print!("{}", bars.markdown());
        return Ok(bars.are_met());
    }
    let report = run(arguments)?;
    print!("{}", report.table());
    Ok(report.is_good())
}
