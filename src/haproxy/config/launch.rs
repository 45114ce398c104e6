//! What a reading of the configuration depends on besides the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::version::Version;
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::environment;
use crate::model::Process;

/// One configuration file, read. HAProxy reads them one after another as separate files:
/// sections and `.if` blocks end with the file, variables and `defaults` live on.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Name as HAProxy would print it (`-f` as given, `DIR/name` inside a directory).
    pub path: PathBuf,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// How HAProxy is, or would be, started: everything from outside the files that can change
/// what they mean. `None` is "not known", and makes uncertain only what rests on it.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Environment it is executed with (`/proc/PID/environ`).
    pub environment: Option<BTreeMap<String, String>>,
    /// Its version.
    pub version: Option<Version>,
    /// The `Feature list` of `haproxy -vv`: `+OPENSSL -QUIC …`.
    pub features: Option<String>,
    /// The SSL library it was built with (`haproxy -vv`).
    pub ssl_library: Option<SslLibrary>,
    /// What gethostname(2) says where it runs; the local peer's name unless told otherwise.
    pub host_name: Option<String>,
    /// `-L NAME`.
    pub local_peer: Option<String>,
    /// Every `-S ADDRESS[,KEYWORD…]`, in order.
    pub master_sockets: Vec<String>,
    /// `-W` or `-Ws`.
    pub master_worker: bool,
    /// `-D`.
    pub daemon: bool,
    /// The `-d…` switches without the dash: `dR`, `dS`, `de`, `dp`, `dG`, `dF`, `dV`.
    pub switches: BTreeSet<String>,
}

impl Launch {
    /// How a running process was started.
    ///
    /// What its master wrote into the environment for itself is left out, so that the launch of
    /// every generation is the same. `host_name`: where that of its own namespace is known.
    #[must_use]
    pub fn of(process: &Process, line: &CommandLine, host_name: Option<String>) -> Launch {
        let environment = process.environment.as_ref();
        let version = environment.and_then(environment::version);
        let own = |name: &str| name == "HAPROXY_PROCESSES" || name.starts_with("HAPROXY_MWORKER");
        Launch {
            environment: environment.map(|environment| {
                let variables = environment.0.iter().filter(|(name, _)| !own(name));
                variables.map(|(name, value)| (name.clone(), value.clone())).collect()
            }),
            version: version.as_deref().and_then(Version::parse),
            features: None,
            ssl_library: None,
            host_name,
            local_peer: line.local_peer.clone(),
            master_sockets: line.master_socket.iter().cloned().collect(),
            master_worker: line.master_worker,
            daemon: line.daemon,
            switches: line.switches.clone(),
        }
    }
}

/// The SSL library as `haproxy -vv` names it after `Built with OpenSSL version :`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SslLibrary {
    /// The whole text: `OpenSSL 3.0.17 1 Jul 2025`.
    pub text: String,
}
