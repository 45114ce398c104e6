//! The foundation of the tests: a world of its own for each test, the real `HAProxy`s to run in it, the
//! exporter, and its page read strictly.
#![allow(dead_code, unused_imports, unused_macros)] // each test crate uses its own part of it

mod bed;
mod clients;
mod container;
mod exporter;
mod gate;
mod haproxy;
mod page;
pub mod proxies;
pub mod scenes;
pub mod schema;
mod view;

pub use bed::{Bed, Running, text};
pub use clients::{DeafServer, EchoServer, Flow, QuicFlow, Server, certificate, fetch};
pub use container::Container;
pub use exporter::{Exporter, Recorder, Response, SAMPLE_INTERVAL};
pub use gate::{assert_exit, check, check_json};
pub use haproxy::{Manner, Service, Version, ask};
pub use page::{Page, Sample};
pub use view::{Raised, Seen, SeenProcess, View};

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Copies a program by a process of its own. While this one has the copy open for writing, a child that
/// another thread is just forking has it open too, and the kernel refuses to execute it (`ETXTBSY`).
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let status = Command::new(tool("cp")).arg(from.as_ref()).arg(to.as_ref()).status().unwrap();
    assert!(status.success(), "{} cannot be copied", from.as_ref().display());
}

/// The longest wait for a condition. A process without a listener is shown after ten seconds; a machine
/// that is busy with other tests takes several times as long as an idle one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `condition` until it gives a value.
///
/// # Panics
/// When it gave none for [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
pub fn await_some<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    await_within(PATIENCE, what, condition)
}

/// The same with another limit, for hosts with hundreds of processes.
#[track_caller]
pub fn await_within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Polls `condition` until it is true.
#[track_caller]
pub fn await_true(what: &str, mut condition: impl FnMut() -> bool) {
    await_some(what, || condition().then_some(()));
}

/// A file that tests/install put under tests/.cache.
///
/// # Panics
/// When it is not there.
pub fn installed(path: &str) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/.cache").join(path);
    assert!(file.exists(), "{} is missing: run tests/install", file.display());
    file
}

/// A program of the oldest Prometheus that the shipped rules are written for.
pub fn oldest_prometheus(program: &str) -> PathBuf {
    installed("prometheus/2.42").join(program)
}

/// A program of the machine, by name.
///
/// # Panics
/// When it is not on PATH.
pub fn tool(name: &str) -> &str {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(name).exists());
    assert!(found, "{name} is not on PATH: run tests/install");
    name
}

/// One `#[test]` for each `HAProxy`, from a function that takes its version.
macro_rules! for_each_version {
    ($($(#[$meta:meta])* $name:ident => $scenario:expr;)+) => {
        for_each_version!([v2_6 V2_6, v2_8 V2_8, v3_0 V3_0, v3_2 V3_2, v3_4 V3_4] $($name => $scenario;)+);
    };
    ($versions:tt $($name:ident => $scenario:expr;)+) => {
        $(for_each_version!(@one $versions $name => $scenario);)+
    };
    (@one [$($test:ident $version:ident),+] $name:ident => $scenario:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(#[test] fn $test() { $scenario($crate::support::Version::$version); })+
        }
    };
}
pub(crate) use for_each_version;
