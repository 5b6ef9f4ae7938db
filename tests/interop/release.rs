//! The releases of the peers, and where each runs from.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::lossy;

/// A daemon that somebody else wrote, in one of its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    StrongSwan5_9_8,
    StrongSwan6_0_1,
    Libreswan4_10,
    Libreswan5_2,
    OpenIked7_2,
    OpenIked7_4,
}

impl Release {
    /// What `peers.sh` calls it; strongSwan 5.9.8 is installed on the machine itself.
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::StrongSwan5_9_8 => None,
            Self::StrongSwan6_0_1 => Some("strongswan-6.0.1"),
            Self::Libreswan4_10 => Some("libreswan-4.10"),
            Self::Libreswan5_2 => Some("libreswan-5.2"),
            Self::OpenIked7_2 => Some("openiked-7.2"),
            Self::OpenIked7_4 => Some("openiked-7.4"),
        }
    }

    /// The folder that is its root, unpacked now if it was not. `None`: that of this machine.
    pub fn root(self) -> Option<PathBuf> {
        Some(path_said_by("peers.sh", self.name()?))
    }
}

/// A plugin for strongSwan 5.9.8, built now if it was not.
pub fn plugin(name: &str) -> PathBuf {
    path_said_by("plugin.sh", name)
}

fn path_said_by(script: &str, word: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let output = Command::new(here.join(script)).arg(word).output().unwrap();
    let error = lossy(&output.stderr);
    assert!(output.status.success(), "tests/interop/{script}: {error}");
    PathBuf::from(lossy(&output.stdout).trim_end())
}

thread_local! {
    static RUNNING: Cell<Option<Release>> = const { Cell::new(None) };
}

/// Plays a scenario with this release as the peer.
pub fn play(release: Release, scenario: impl FnOnce()) {
    RUNNING.set(Some(release));
    scenario();
}

/// The release that the scenario of this thread is played with.
pub fn running() -> Release {
    RUNNING.get().unwrap()
}
