//! The name of a haproxy, the same over all its reloads.

use std::path::{Path, PathBuf};

use super::generations::{Generation, Generations};
use super::member::{Member, Role, becomes_daemon};
use super::services::Service;
use crate::haproxy::command_line::CommandLine;
use crate::model::Process;

/// What is known of a service besides its processes; labels of `haproxy_host_info`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `master-worker`, `daemon` or `foreground`.
    pub mode: &'static str,
    /// systemd unit, without `.service`.
    pub unit: Option<String>,
    /// The first configuration file or directory.
    pub config: Option<PathBuf>,
    /// The pidfile.
    pub pidfile: Option<PathBuf>,
    /// The master socket's path.
    pub master_socket: Option<PathBuf>,
    /// Its cgroup.
    pub cgroup: Option<String>,
    /// Version of HAProxy, where its environment tells.
    pub version: Option<String>,
}

impl Identity {
    /// What the processes of `service` say: the master first, else what serves, else the newest.
    #[must_use]
    pub fn of(service: &Service<'_>, generations: &Generations) -> Identity {
        let mut speakers: Vec<&Member<'_>> = service.members.iter().rev().collect();
        let stands_back = |member: &Member<'_>| {
            let current = generations.get(member.id()) == Generation::Current;
            (!member.lives(), member.role != Role::Master, !current)
        };
        speakers.sort_by_key(|member| stands_back(member));
        let Some(first) = speakers.first() else { return Identity::default() };
        let process = first.process;
        let line = first.line.clone().unwrap_or_default();
        let directory = line.launch_directory(process);
        let resolve = |path: &String| {
            let resolved = CommandLine::resolve(directory.as_deref(), path);
            resolved.unwrap_or_else(|| PathBuf::from(path))
        };
        let versions = |member: &&Member<'_>| {
            crate::haproxy::environment::version(member.process.environment.as_ref()?)
        };
        Identity {
            mode: match first.role {
                Role::Master | Role::Worker => "master-worker",
                Role::Daemon if becomes_daemon(process, &line) || detached(process) => "daemon",
                Role::Daemon => "foreground",
            },
            unit: process.cgroup.as_deref().and_then(unit_of),
            config: line.files.first().map(resolve),
            // As it was found: by -p, else by the configuration.
            pidfile: (process.pidfile.as_ref().map(|pidfile| pidfile.path.clone()))
                .or_else(|| line.pidfile.as_ref().map(resolve)),
            master_socket: line.master_socket.as_deref().map(socket_path),
            cgroup: process.cgroup.clone(),
            version: speakers.iter().find_map(versions),
        }
    }

    /// The name this service would have if no other had the same.
    #[must_use]
    pub fn preferred_name(&self, service: &Service<'_>) -> String {
        let pod = || service.members.iter().find_map(|member| pod_of(member.process));
        let stem = |path: &PathBuf| path.file_stem()?.to_str().map(str::to_owned);
        self.unit
            .clone()
            .or_else(pod)
            .or_else(|| self.pidfile.as_ref().and_then(stem))
            .or_else(|| self.config.as_ref().and_then(stem))
            .unwrap_or_else(|| "haproxy".to_owned())
    }

    /// What tells it from others of the same name: a short hash of pidfile, configuration or
    /// socket path and surroundings.
    #[must_use]
    pub fn hash(&self, service: &Service<'_>) -> String {
        let path = self.pidfile.as_ref().or(self.config.as_ref()).or(self.master_socket.as_ref());
        let first = service.members.first().map(|member| member.process);
        let surroundings = first.map(|p| (p.net_namespace, p.pid_namespace, p.cgroup.clone()));
        let text = format!("{path:?} {surroundings:?}");
        format!("{:06x}", fnv1a(text.as_bytes()) & 0x00ff_ffff)
    }
}

/// It leads a session, init is its parent, and no unit runs it: it has become a daemon, be it
/// by its configuration.
fn detached(process: &Process) -> bool {
    let unit = process.cgroup.as_deref().and_then(unit_of);
    process.session == process.id.pid && process.parent == 1 && unit.is_none()
}

/// `/system.slice/haproxy.service` gives `haproxy`; a user's session manager is no unit of it.
fn unit_of(cgroup: &str) -> Option<String> {
    let last = cgroup.rsplit('/').find(|part| !part.is_empty())?;
    let mut services = cgroup.split('/').filter_map(|part| part.strip_suffix(".service"));
    let unit = services.rfind(|name| !name.starts_with("user@"))?;
    (!is_container(last)).then(|| unit.to_owned())
}

/// The last part of a container's cgroup carries its 64 digits.
fn is_container(part: &str) -> bool {
    part.split(|c: char| !c.is_ascii_hexdigit()).any(|word| word.len() == 64)
}

/// The pod or container a process lives in, by its `HOSTNAME`.
fn pod_of(process: &Process) -> Option<String> {
    let cgroup = process.cgroup.as_deref().unwrap_or_default();
    let contained = process.namespace_pids.len() > 1 || cgroup.split('/').any(is_container);
    let name = process.environment.as_ref()?.get("HOSTNAME").filter(|name| !name.is_empty())?;
    contained.then(|| name.to_owned())
}

/// `/run/m.sock,level,admin` and `unix@/run/m.sock` give `/run/m.sock`.
fn socket_path(argument: &str) -> PathBuf {
    let path = argument.split(',').next().unwrap_or(argument);
    Path::new(path.strip_prefix("unix@").unwrap_or(path)).to_owned()
}

/// FNV-1a, 32 bits: short, and the same in every build.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_from_cgroups() {
        let id = "f".repeat(64);
        let table = [
            ("/system.slice/haproxy.service", Some("haproxy")),
            ("/system.slice/system-haproxy.slice/haproxy@a.service", Some("haproxy@a")),
            ("/user.slice/user-0.slice/user@0.service/app.slice/lb.service", Some("lb")),
            ("/user.slice/user-0.slice/user@0.service/session.slice", None),
            ("/user.slice/user-0.slice/session-5.scope", None),
            (&format!("/system.slice/docker-{id}.scope"), None),
            (&format!("/system.slice/containerd.service/{id}"), None),
            ("/", None),
        ];
        for (cgroup, unit) in table {
            assert_eq!(unit_of(cgroup).as_deref(), unit, "{cgroup}");
        }
    }

    #[test]
    fn a_socket_argument_has_options() {
        assert_eq!(socket_path("unix@/run/m,level,admin"), Path::new("/run/m"));
    }
}
