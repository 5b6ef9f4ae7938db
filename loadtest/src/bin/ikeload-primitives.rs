//! ikeload-primitives: what BoringSSL alone takes for the primitives of one handshake of a scenario, the
//! responder's half; what scripts/compare.sh measures all responders by.
#![allow(
    clippy::unwrap_used,
    reason = "the floor is that of the benches, and one that cannot be measured has failed"
)]

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use boring::ec::{EcGroup, EcKey};
use boring::nid::Nid;
use boring::pkey::PKey;
use boring::rsa::Rsa;
use clap::Parser;
use iked::wire::registry::KeId;
use ikeload::scenario::{Auth, KeyKind, Scenario};
use rustix::time::{ClockId, clock_gettime};

#[allow(dead_code, reason = "the benches use more of it")]
#[path = "../../../benches/support/floor.rs"]
mod floor;

use floor::{Lengths, Proof, Step};

/// What BoringSSL alone takes for the primitives of one handshake of a scenario, the responder's half.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The scenario of ikeload: a PSK or certificates, AES-128-GCM and PRF-HMAC-SHA2-256.
    scenario: PathBuf,
    /// The peers were here before: whom the authority vouches for is known.
    #[arg(long)]
    again: bool,
    /// Write the figures as JSON, in the form of ikeload's report.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what the program is for"
)]
fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(micros) => {
            println!("{micros:.1} us for the primitives of one handshake");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ikeload-primitives: {error}");
            ExitCode::from(2)
        }
    }
}

/// Microseconds of this thread's CPU time for one handshake.
fn measure(arguments: &Arguments) -> Result<f64, Box<dyn Error>> {
    let scenario = Scenario::load(&arguments.scenario)?;
    let steps = steps(&scenario, arguments.again);
    let mut steps = steps.ok_or("want a PSK or certificates, and one of the suites")?;
    let start = cpu();
    let mut count: u64 = 0;
    while cpu() - start < TIME {
        for _ in 0..BATCH {
            steps.iter_mut().for_each(|step| step());
        }
        count += BATCH;
    }
    let micros = (cpu() - start) * 1e6 / count as f64;
    if let Some(path) = &arguments.json {
        let figures = serde_json::json!({
            "peers": count, "up": count, "lost": 0, "cpu_micros_per_sa": micros,
        });
        fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(micros)
}

/// The primitives of a scenario; `None` where it has others than are known here.
fn steps(scenario: &Scenario, again: bool) -> Option<Vec<Step>> {
    let group = scenario.suite.ike.strip_prefix(IKE)?;
    let method = match group {
        "curve25519" => KeId::CURVE25519,
        "ecp256" => KeId::ECP_256,
        _ => return None,
    };
    let proof = match &scenario.auth {
        Auth::Psk { .. } => Proof::Psk,
        Auth::Certificate {
            key: KeyKind::EcdsaP256,
        } => {
            let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).ok()?;
            Proof::Key(PKey::from_ec_key(EcKey::generate(&group).ok()?).ok()?)
        }
        Auth::Certificate {
            key: KeyKind::Rsa2048,
        } => Proof::Key(PKey::from_rsa(Rsa::generate(2048).ok()?).ok()?),
        Auth::Raw { .. } | Auth::EapMschapv2 { .. } => return None,
    };
    let auth = match &proof {
        Proof::Psk => 0,
        Proof::Key(key) => CERTIFICATE + key.size() * 2,
    };
    let lengths = Lengths {
        auth_request: PSK.auth_request + auth,
        auth_response: PSK.auth_response + auth,
        ..PSK
    };
    let mut steps = floor::handshake(method, &proof, lengths, true);
    if let (Proof::Key(key), false) = (&proof, again) {
        // The peer's certificate, signed by the authority.
        steps.push(floor::verify(key, CERTIFICATE));
    }
    let more_keymat = match scenario.suite.child.as_str() {
        "enc aes-128-gcm" => 0,
        // Keys of 160 bytes, not of 40: five blocks instead of two.
        "enc aes-128 auth hmac-sha2-512" => 3,
        _ => return None,
    };
    steps.extend((0..more_keymat).map(|_| floor::hmac(32, 32 + 32 + 2 * 32 + 1)));
    Some(steps)
}

/// CPU time of this thread in seconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The beginning of a suite for IKE; a group follows.
const IKE: &str = "enc aes-128-gcm prf hmac-sha2-256 group ";
/// Bytes of the datagrams between ikeload and iked with a PSK.
const PSK: Lengths = Lengths {
    init_request: 232,
    init_response: 259,
    auth_request: 269,
    auth_response: 236,
};
/// Bytes of a certificate without its key and its signature.
const CERTIFICATE: usize = 350;
/// CPU time of a measurement in seconds.
const TIME: f64 = 1.0;
/// Handshakes between two looks at the clock.
const BATCH: u64 = 16;
