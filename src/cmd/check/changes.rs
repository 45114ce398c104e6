//! Gathers what a reload would change, for the service that runs the configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::host::{Host, LiveService};
use super::target::{self, Target};
use crate::check::changes::{self, BoundPort, Changes, Executable, PortChanges};
use crate::haproxy::config::{Declared, Version};
use crate::model::Protocol;
use crate::sample::on_demand::executables::{self, OnDisk};

impl Host {
    /// What a reload would change; `None` if no service runs this configuration, so that there is nothing
    /// to compare with.
    pub fn changes(&self, target: &Target, declared: &Declared) -> Option<Changes> {
        let running = self.service(target.service.as_deref()?)?;
        Some(Changes {
            ports: self.port_changes(running, declared),
            executable: self.executable(running),
        })
    }

    fn port_changes(&self, running: &LiveService, declared: &Declared) -> Option<PortChanges> {
        let both = [Protocol::Tcp, Protocol::Udp];
        if both.iter().any(|protocol| !running.protocols_known.contains(protocol)) {
            return None;
        }
        let places = self.places(running);
        let label = |namespace: Option<&str>| {
            let network = places.network(namespace).and_then(|id| self.snapshot.networks.get(&id));
            let named = || namespace.unwrap_or_default().to_owned();
            network.map_or_else(named, |network| network.label.clone())
        };
        let next: BTreeSet<BoundPort> = declared
            .endpoints()
            .map(|(listener, port)| BoundPort {
                protocol: listener.protocol,
                address: listener.address,
                port,
                interface: listener.interface.clone().unwrap_or_default(),
                netns: label(listener.namespace.as_deref()),
            })
            .collect();
        Some(changes::of_ports(&next, &running.listens, declared))
    }

    /// The executable that the next process of the service would run: the one that its command line
    /// names. Nothing is read on the word of another user.
    fn executable(&self, running: &LiveService) -> Option<Executable> {
        let processes = self.processes(running);
        let process = processes.first().filter(|_| target::is_trusted(running))?;
        let named = process.arguments.as_ref().and_then(|arguments| arguments.first());
        let named = named.map(PathBuf::from).filter(|path| path.is_absolute());
        let path = named.or_else(|| process.executable.as_ref().map(|e| e.path.clone()))?;
        let (running, next) = match executables::on_disk(&self.procfs, process.id.pid, &path)? {
            OnDisk::Same => return Some(Executable::SameBranch),
            OnDisk::Other { running, next } => (running, next),
        };
        let branch = |text: &str| Version::parse(text).map(|version| version.numbers());
        let ((major, minor, _), (next_major, next_minor, _)) = (branch(&running)?, branch(&next)?);
        Some(if (major, minor) == (next_major, next_minor) {
            Executable::SameBranch
        } else {
            Executable::OtherBranch { running, next }
        })
    }
}
