//! Gathers the ports that the configurations of this host declare.

use std::path::Path;
use std::sync::Arc;

use super::answer::unreadable;
use super::host::{Host, LiveService};
use super::target;
use crate::check::declared_ports::Claim;
use crate::check::finding::Severity;
use crate::haproxy::config::{self, Declared};
use crate::haproxy::places::Places;
use crate::model::{Configuration, NamespaceId, Unreadable, What};
use crate::policy::Policy;
use crate::sample::files::config_files::{self, Base};
use crate::sample::paths::access::Reader;

/// What one service declares.
struct Declaring {
    /// Its name.
    name: String,
    source: Origin,
    /// The namespaces of its binds.
    places: Places,
    severity: Severity,
}

/// Where the declaration comes from.
enum Origin {
    Running(Arc<Configuration>),
    /// The service does not run, and the exporter's own configuration names its files.
    Configured(Box<Declared>),
}

/// The ports that the services of this host declare in one network namespace.
pub struct Claims {
    services: Vec<Declaring>,
    /// The network namespace that is asked about.
    network: Option<NamespaceId>,
    unseen: Vec<Unreadable>,
    /// What could not be read and changes no answer.
    pub notes: Vec<String>,
}

impl Claims {
    /// The declarations of every service. `service` names the service for which the port is meant; its
    /// network namespace is the one that is asked about.
    pub fn of(host: &Host, policy: &Policy, service: Option<&str>) -> Claims {
        let running = service.and_then(|name| host.service(name));
        let network = running.and_then(|running| host.places(running).home);
        let mut claims = Claims {
            services: Vec::new(),
            network: network.or(host.snapshot.own_network),
            unseen: Vec::new(),
            notes: Vec::new(),
        };
        for running in &host.services {
            claims.add(host, policy, running);
        }
        for configured in &policy.haproxys {
            if host.service(&configured.name).is_none()
                && let Some(path) = &configured.matching.config
            {
                claims.add_configured(&configured.name, path);
            }
        }
        claims
    }

    fn add(&mut self, host: &Host, policy: &Policy, running: &LiveService) {
        let trusted = policy.is_configured(&running.name) || target::is_trusted(running);
        let subject = format!("haproxy {}", running.name);
        let missing = match &running.configuration {
            None => Some("no process shows its configuration; needs CAP_SYS_PTRACE".to_owned()),
            Some(configuration) => unread(configuration)
                .map(|problem| format!("part of its configuration could not be read: {problem}"))
                .or_else(|| {
                    declares_any_port(&configuration.declared).then(|| {
                        "a line of its configuration that cannot be decided may declare any port"
                            .to_owned()
                    })
                }),
        };
        match missing {
            // Root sees everything that there is to see, so the user has hidden it or left it open. That
            // must not make every port look doubtful.
            Some(reason) if !trusted && rustix::process::geteuid().is_root() => {
                self.notes.push(format!("what {subject} declares does not count: {reason}"));
            }
            Some(reason) => {
                self.unseen.push(Unreadable { what: What::Config, subject, reason });
            }
            None => {}
        }
        if let Some(configuration) = &running.configuration {
            self.services.push(Declaring {
                name: running.name.clone(),
                source: Origin::Running(Arc::clone(configuration)),
                places: host.places(running),
                severity: if trusted { Severity::Error } else { Severity::Warning },
            });
        }
    }

    fn add_configured(&mut self, name: &str, path: &Path) {
        // The operator named this path. Who else can change a link or a directory on the way lends no
        // more than their own rights.
        let base = Base { directory: "/".into(), reader: Some(Reader::Root), ..Base::default() };
        let collected = config_files::collect(&[path.to_owned()], &base);
        for problem in collected.problems.iter().filter(|problem| !problem.is_error()) {
            self.unseen.push(unreadable(problem));
        }
        let declared = config::read(&collected.files, &target::here());
        self.services.push(Declaring {
            name: name.to_owned(),
            source: Origin::Configured(Box::new(declared)),
            places: Places { home: self.network, ..Places::default() },
            severity: Severity::Error,
        });
    }

    /// The claims, in the order of the services and of their configurations.
    pub fn list(&self) -> Vec<Claim<'_>> {
        let mut list = Vec::new();
        for service in &self.services {
            let declared = service.declared();
            let name = service.name.as_str();
            let here = |namespace: Option<&str>| {
                let place = service.places.network(namespace);
                place.is_none() || place == self.network
            };
            let listeners = declared.listeners.iter();
            let listeners = listeners.filter(|listener| here(listener.namespace.as_deref()));
            let mut claims: Vec<_> = listeners.map(|listener| Claim::of(name, listener)).collect();
            for line in &declared.uncertain {
                let possible = line.may_bind.iter();
                claims.extend(possible.filter_map(|one| Claim::of_uncertain(name, line, one)));
            }
            let severity = service.severity;
            list.extend(claims.into_iter().map(|claim| claim.weighing(severity)));
        }
        list
    }

    /// What could not be read of the services, and which right is missing.
    pub fn unseen(&self, host: &Host) -> Vec<Unreadable> {
        let mut unseen = self.unseen.clone();
        if host.snapshot.gaps.may_hide_a_service() {
            unseen.extend(host.unreadable().iter().cloned());
        }
        unseen
    }
}

impl Declaring {
    fn declared(&self) -> &Declared {
        match &self.source {
            Origin::Running(configuration) => &configuration.declared,
            Origin::Configured(declared) => declared,
        }
    }
}

/// Why a file is missing from the reading. An error in a file that was read makes no difference: HAProxy would
/// not start with it, and the other lines still show what is meant.
fn unread(configuration: &Configuration) -> Option<&str> {
    configuration.unread.as_deref().filter(|_| configuration.declared.errors.is_empty())
}

fn declares_any_port(declared: &Declared) -> bool {
    let possible = declared.uncertain.iter().flat_map(|line| &line.may_bind);
    possible.into_iter().any(|possible| possible.ports.is_none())
}
