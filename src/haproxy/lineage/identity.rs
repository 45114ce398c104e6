//! The identity of a service, which is the same over all its reloads: the attributes that name it.

use std::path::{Path, PathBuf};

use super::generations::{Generation, Generations};
use super::member::{Member, Role, becomes_daemon};
use super::naming::{self, Candidate};
use super::services::Service;
use crate::haproxy::command_line::CommandLine;
use crate::model::Process;
use crate::model::shortened::{MOST_SHOWN, shortened};

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
    /// Version of HAProxy, where its environment shows it.
    pub version: Option<String>,
    /// The user who started it.
    pub starter: Option<u32>,
    /// It runs in a container that root made.
    pub is_contained: bool,
    /// Its starter can write its pidfile: the path is more than a claim.
    pub owns_pidfile: bool,
}

/// What the metrics and reports show of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `master-worker`, `daemon` or `foreground`; empty for a service that was never seen.
    pub mode: &'static str,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The first configuration file or directory.
    pub config: Option<String>,
    /// The pidfile.
    pub pidfile: Option<String>,
    /// The version of HAProxy.
    pub version: Option<String>,
}

impl Identity {
    /// The identity that the processes of `service` show: that of the master, else of a serving process,
    /// else of the newest.
    #[must_use]
    pub fn of(service: &Service<'_>, generations: &Generations) -> Identity {
        let mut speakers: Vec<&Member<'_>> = service.members.iter().rev().collect();
        let stands_back = |member: &Member<'_>| {
            let current = generations.get(member.id()) == Generation::Current;
            (!member.lives(), !current, member.role != Role::Master)
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
            starter: first.starter,
            is_contained: process.cgroup.as_deref().is_some_and(is_roots_container),
            owns_pidfile: first.starter == Some(0)
                || process
                    .pidfile
                    .as_ref()
                    .is_some_and(|file| file.writer.is_some() && file.writer == first.starter),
        }
    }

    /// The name this service would have if no other had the same.
    fn preferred_name(&self, service: &Service<'_>) -> String {
        let pod = || service.members.iter().find_map(|member| pod_of(member.process));
        // HAProxy expands no variable in an unquoted path, and a file may be called so.
        let stem = |path: &PathBuf| {
            path.file_stem()?.to_str().filter(|stem| !stem.contains('$')).map(str::to_owned)
        };
        self.unit
            .clone()
            .or_else(pod)
            .or_else(|| self.pidfile.as_ref().and_then(stem))
            .or_else(|| self.config.as_ref().and_then(stem))
            .unwrap_or_else(|| "haproxy".to_owned())
    }

    /// The user other than root who started the service, outside containers of root's, and so could have chosen
    /// what it says of itself.
    #[must_use]
    pub fn untrusted_starter(&self) -> Option<u32> {
        self.starter.filter(|&uid| uid != 0 && !self.is_contained)
    }

    /// What is shown of it. A user may have made each of these texts very long.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let text = |text: &Option<String>| {
            text.as_ref().map(|text| shortened(text, MOST_SHOWN).into_owned())
        };
        let path = |path: &Option<PathBuf>| {
            let path = path.as_ref().map(|path| path.to_string_lossy());
            path.map(|path| shortened(&path, MOST_SHOWN).into_owned())
        };
        Shown {
            mode: self.mode,
            unit: text(&self.unit),
            config: path(&self.config),
            pidfile: path(&self.pidfile),
            version: text(&self.version),
        }
    }

    /// The service as a candidate for a name.
    #[must_use]
    pub fn candidate(&self, service: &Service<'_>) -> Candidate {
        let path = self.pidfile.as_ref().or(self.config.as_ref()).or(self.master_socket.as_ref());
        Candidate {
            preferred: self.preferred_name(service),
            untrusted_starter: self.untrusted_starter(),
            is_roots: self.starter == Some(0),
            path: path.map(|path| path.display().to_string()).unwrap_or_default(),
            distinction: naming::distinction(service),
            oldest: service.members.first().map(Member::id),
            known_as: None,
        }
    }
}

/// It leads a session, init is its parent, and no unit runs it: it has become a daemon, by `-D` or by its
/// configuration.
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

/// A container's cgroup, and not one that a user made below what is delegated to users.
#[must_use]
pub fn is_roots_container(cgroup: &str) -> bool {
    !cgroup.starts_with("/user.slice/") && cgroup.split('/').any(is_container)
}

/// The pod or container a process lives in, by its `HOSTNAME`; of a pod, what it is a copy of.
fn pod_of(process: &Process) -> Option<String> {
    let cgroup = process.cgroup.as_deref().unwrap_or_default();
    let contained = process.namespace_pids.len() > 1 || cgroup.split('/').any(is_container);
    let name = process.environment.as_ref()?.get("HOSTNAME").filter(|name| !name.is_empty())?;
    let in_kubernetes = cgroup.contains("kubepods")
        || process.environment.as_ref()?.get("KUBERNETES_SERVICE_HOST").is_some();
    let name = if in_kubernetes { without_generated_suffix(name) } else { name };
    contained.then(|| name.to_owned())
}

/// `lbagent-7c9f8d6b5-x2x4z` of a Deployment and `lbagent-x2x4z` of a DaemonSet give `lbagent`.
fn without_generated_suffix(pod: &str) -> &str {
    // The alphabet of k8s.io/apimachinery/pkg/util/rand, without vowels.
    let generated = |part: &str| part.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c));
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    if last.len() != 5 || !generated(last) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((name, hash)) if (8..=10).contains(&hash.len()) && generated(hash) => name,
        _ => rest,
    }
}

/// `/run/m.sock,level,admin` and `unix@/run/m.sock` give `/run/m.sock`.
fn socket_path(argument: &str) -> PathBuf {
    let path = argument.split(',').next().unwrap_or(argument);
    Path::new(path.strip_prefix("unix@").unwrap_or(path)).to_owned()
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
    fn a_pod_is_a_copy_of_something() {
        let table = [
            ("lbagent-7c9f8d6b5-x2x4z", "lbagent"),
            ("lb-agent-x2x4z", "lb-agent"),
            ("lb-0", "lb-0"),
            ("haproxy-proxy", "haproxy-proxy"),
        ];
        for (pod, name) in table {
            assert_eq!(without_generated_suffix(pod), name, "{pod}");
        }
    }

    #[test]
    fn a_socket_argument_has_options() {
        assert_eq!(socket_path("unix@/run/m,level,admin"), Path::new("/run/m"));
    }
}
