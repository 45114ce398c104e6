//! What the meaning of a configuration depends on besides its files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use super::version::Version;
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::environment;
use crate::model::Process;
use crate::model::declared::HostQuery;

/// The content of one configuration file. HAProxy reads files one after another: sections and `.if`
/// blocks end with their file, variables and `defaults` remain in force.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its name as HAProxy prints it: the argument of `-f`, or `DIR/name` inside a directory.
    pub path: PathBuf,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// Whether HAProxy loads a file of this name from a directory of `-f`: the name ends at its first `.cfg`
/// and does not begin with a dot (`cfgfiles_expand_directories` in `src/haproxy.c`).
#[must_use]
pub fn is_configuration(name: &[u8]) -> bool {
    let first = name.windows(4).position(|part| part == b".cfg");
    name.first() != Some(&b'.') && first.is_some_and(|at| at + 4 == name.len())
}

/// How HAProxy is, or would be, started: everything outside the files that can change their
/// meaning. `None` means that a value is not known, and makes only the lines that need it uncertain.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Environment that HAProxy is executed with (`/proc/PID/environ`).
    pub environment: Option<BTreeMap<String, String>>,
    /// HAProxy's version.
    pub version: Option<Version>,
    /// The host name (`gethostname(2)`), which is the local peer's name by default.
    pub host_name: Option<String>,
    /// The local peer's name given by `-L NAME`.
    pub local_peer: Option<String>,
    /// The argument of every `-S ADDRESS[,KEYWORD…]`, in order.
    pub master_sockets: Vec<String>,
    /// HAProxy is started with `-W` or `-Ws`.
    pub master_worker: bool,
    /// The addresses of host names, or why they have none. A name that is absent was not looked up,
    /// and makes its line uncertain.
    pub names: BTreeMap<HostQuery, Result<IpAddr, String>>,
    /// The `-d…` switches without the dash: `dR`, `dS`, `de`, `dp`, `dG`, `dF`, `dV`.
    pub switches: BTreeSet<String>,
}

impl Launch {
    /// Derives the launch from a running process.
    ///
    /// It leaves out the variables that a master writes for itself, so that every generation has
    /// the same launch. `host_name`: the name in the process's own namespace, where that is known.
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
            host_name,
            local_peer: line.local_peer.clone(),
            master_sockets: line.master_socket.iter().cloned().collect(),
            master_worker: line.master_worker,
            names: BTreeMap::new(),
            switches: line.switches.clone(),
        }
    }
}
