//! What came of a signal.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::sight::{BootSeconds, ServiceSight, Sight};
use crate::judge::verdict::{PortKey, StaleState};
use crate::model::ProcessId;
use crate::model::named::named;
use crate::policy::reap::StopSignal;

named! {
    /// What came of a signal (label `result`).
    pub enum Effect {
        /// The process has ended.
        Ended = "ended",
        /// It has let go of its listeners and lets its clients finish.
        Drains = "drains",
        /// Nothing had changed when its time was over.
        Unchanged = "unchanged",
        /// The signal could not be sent.
        Refused = "refused",
    }
}

/// A signal that was sent, or is about to be, and whose effect has not been seen yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Awaited {
    /// The name of the service.
    #[serde(rename = "haproxy")]
    pub service: String,
    /// The pid of the process.
    pub pid: i32,
    /// Its start, in ticks since boot.
    pub start_ticks: u64,
    /// The signal.
    pub signal: StopSignal,
    /// Why the process was still there (label `state`).
    pub state: String,
    /// When it was sent.
    pub at: BootSeconds,
    /// The time that it is given.
    pub patience_seconds: f64,
    /// The ports on which it listened, as [`port_name`] writes them.
    pub ports: BTreeSet<String>,
}

/// What was seen of a signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its effect.
    pub effect: Effect,
    /// The ports that were released.
    pub released: BTreeSet<String>,
}

impl Awaited {
    /// The process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { start_ticks: self.start_ticks, pid: self.pid }
    }

    /// What a look shows of the effect; `None` if it shows nothing yet.
    #[must_use]
    pub fn seen_in(&self, sight: &Sight) -> Option<Seen> {
        if sight.blurred.is_some() {
            return None;
        }
        let service = sight.services.get(&self.service);
        let is_over = sight.booted - self.at >= self.patience_seconds;
        let stale = service.and_then(|service| service.stale.get(&self.id()));
        let Some(process) = stale else {
            // A process that is not stale any more was judged wrongly, and has not ended.
            let lives = service.is_some_and(|service| service.others.contains_key(&self.pid));
            let (effect, released) = if lives {
                (Effect::Unchanged, BTreeSet::new())
            } else {
                (Effect::Ended, self.ports.clone())
            };
            return Some(Seen { effect, released });
        };
        let ports: BTreeSet<String> = process.ports.iter().map(port_name).collect();
        let released = self.ports.difference(&ports).cloned().collect();
        let listened = self.state == StaleState::Listening.as_str();
        if listened && matches!(process.state, StaleState::Draining | StaleState::Idle) {
            return Some(Seen { effect: Effect::Drains, released });
        }
        is_over.then_some(Seen { effect: Effect::Unchanged, released })
    }
}

/// A port as the state file and the audit have it: `tcp 0.0.0.0:80`, with `@netns` and `%interface` where it
/// has them.
#[must_use]
pub fn port_name(port: &PortKey) -> String {
    let address = std::net::SocketAddr::new(port.address, port.port);
    let with = |sign: &str, name: &str| match name {
        "" => String::new(),
        name => format!("{sign}{name}"),
    };
    let (netns, interface) = (with("@", &port.netns), with("%", &port.interface));
    format!("{} {address}{netns}{interface}", port.protocol)
}

/// The ports that no process of a service holds any more.
#[must_use]
pub fn given_back(service: Option<&ServiceSight>, released: &BTreeSet<String>) -> BTreeSet<String> {
    let stale = service.into_iter().flat_map(|service| service.stale.values());
    let served = service.map(|service| &service.ports);
    let ports = stale.map(|process| &process.ports).chain(served).flatten();
    let held: BTreeSet<String> = ports.map(port_name).collect();
    released.difference(&held).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::haproxy::lineage::generations::Generation;
    use crate::model::Protocol;
    use crate::reap::plan::tests::stale;
    use crate::reap::sight::Stale;

    fn port(port: u16) -> PortKey {
        PortKey {
            protocol: Protocol::Tcp,
            address: "0.0.0.0".parse().unwrap(),
            port,
            interface: "".into(),
            netns: "".into(),
        }
    }

    fn sight(booted: f64, process: Option<Stale>) -> Sight {
        let id = ProcessId { start_ticks: 1, pid: 10 };
        let stale = process.into_iter().map(|process| (id, process)).collect();
        let service = ServiceSight { stale, ..ServiceSight::default() };
        Sight { booted, services: BTreeMap::from([("a".to_owned(), service)]), ..Sight::default() }
    }

    #[test]
    fn the_effect_of_a_signal_is_seen_not_assumed() {
        let awaited = Awaited {
            service: "a".to_owned(),
            pid: 10,
            start_ticks: 1,
            signal: StopSignal::Usr1,
            state: "listening".to_owned(),
            at: 100.0,
            patience_seconds: 30.0,
            ports: [port(80), port(81)].iter().map(port_name).collect(),
        };
        let with = |state, ports: &[u16]| {
            Some(Stale { ports: ports.iter().map(|p| port(*p)).collect(), ..stale(state) })
        };
        let table = [
            ("it still listens", 110.0, with(StaleState::Listening, &[80, 81]), None),
            (
                "and has had its time",
                130.0,
                with(StaleState::Listening, &[80, 81]),
                Some((Effect::Unchanged, 0)),
            ),
            (
                "one port is released",
                130.0,
                with(StaleState::Listening, &[80]),
                Some((Effect::Unchanged, 1)),
            ),
            ("it drains", 101.0, with(StaleState::Draining, &[]), Some((Effect::Drains, 2))),
            (
                "it is idle, and about to end",
                101.0,
                with(StaleState::Idle, &[]),
                Some((Effect::Drains, 2)),
            ),
            ("it has ended", 101.0, None, Some((Effect::Ended, 2))),
            ("it cannot be seen", 110.0, with(StaleState::Unknown, &[]), None),
        ];
        for (what, booted, process, expected) in table {
            let seen = awaited.seen_in(&sight(booted, process));
            let seen = seen.map(|seen| (seen.effect, seen.released.len()));
            assert_eq!(seen, expected, "{what}");
        }
        let mut current = sight(101.0, None);
        let others = BTreeMap::from([(10, Generation::Current)]);
        current.services.get_mut("a").unwrap().others = others;
        assert_eq!(awaited.seen_in(&current).unwrap().effect, Effect::Unchanged);
        let blurred = Sight { blurred: Some(String::new()), ..sight(500.0, None) };
        assert_eq!(awaited.seen_in(&blurred), None);
    }

    #[test]
    fn ports_have_names() {
        let blue = PortKey { netns: "blue".into(), interface: "eth0".into(), ..port(80) };
        assert_eq!(port_name(&blue), "tcp 0.0.0.0:80@blue%eth0");
        let v6 = PortKey { address: "::1".parse().unwrap(), ..port(443) };
        assert_eq!(port_name(&v6), "tcp [::1]:443");
    }
}
