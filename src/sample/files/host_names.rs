//! The host name as each process sees it, which is the default name of the local peer.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::thread::LinkNameSpaceType;

use crate::model::NamespaceId;
use crate::sample::discovery::processes::Found;
use crate::sample::discovery::root_view::own_pid;
use crate::sample::network::namespaces::enter;
use crate::sample::proc::dir::ProcDir;

/// Names of the UTS namespaces in which HAProxys live. Each is asked for once: HAProxy itself asks only
/// when it starts, and asking means entering the namespace.
#[derive(Debug, Default)]
pub struct HostNames {
    /// The exporter's own.
    own: Option<NamespaceId>,
    known: BTreeMap<NamespaceId, Option<String>>,
}

impl HostNames {
    /// Forgets the namespaces in which no HAProxy lives any more.
    pub fn retain_those_of(&mut self, found: &[Found]) {
        if self.known.is_empty() {
            return;
        }
        let lives_in = |id| found.iter().any(|found| found.uts_namespace == Some(id));
        self.known.retain(|&id, _| lives_in(id));
    }

    /// The name where this process lives; `None` if it lives elsewhere, and a right is missing to
    /// enter there (`CAP_SYS_ADMIN`).
    pub fn of(&mut self, procfs: &Path, found: &Found) -> Option<String> {
        let id = found.uts_namespace?;
        self.own = self.own.or_else(|| {
            let own = own_pid(procfs).and_then(|pid| ProcDir::open(procfs, pid).ok());
            own?.namespace("uts").ok()
        });
        if self.own == Some(id) {
            return here();
        }
        self.known.entry(id).or_insert_with(|| there(found)).clone()
    }
}

fn here() -> Option<String> {
    Some(rustix::system::uname().nodename().to_str().ok()?.to_owned())
}

fn there(found: &Found) -> Option<String> {
    let (_, file) = found.directory.open_namespace("uts").ok()?;
    enter(file, LinkNameSpaceType::HostNameAndNISDomainName, || Ok(here())).ok()?
}
