//! What the rules look at.

use std::collections::BTreeSet;

use crate::haproxy::lineage::generations::Generation;
use crate::judge::case::{self, Case, PortSockets};
use crate::judge::finding::Judgement;
use crate::judge::owners::Owners;
use crate::judge::verdict::PortKey;
use crate::model::{Configuration, Protocol};

/// What the rules look at.
#[derive(Debug)]
pub struct RuleInput<'a> {
    /// The haproxy.
    pub case: &'a Case<'a>,
    /// What its processes listen on.
    pub ports: &'a [PortSockets<'a>],
    /// Name of every other haproxy that shares a port with one, and what it listens on.
    pub others: &'a [(&'a str, &'a [PortSockets<'a>])],
    /// Ports whose accept queue dropped connections since the last sample.
    pub dropping: &'a BTreeSet<PortKey>,
    /// Whose the sockets on ports in question are.
    pub owners: &'a Owners<'a>,
}

impl<'a> RuleInput<'a> {
    /// What the processes of one generation listen on.
    pub(in crate::judge) fn of(
        &self,
        generation: Generation,
    ) -> impl Iterator<Item = &'a PortSockets<'a>> {
        self.ports.iter().filter(move |port| port.generation == generation)
    }

    /// The same by port.
    pub(in crate::judge) fn by_port(
        &self,
        generation: Generation,
    ) -> impl Iterator<Item = (&'a PortKey, &'a [PortSockets<'a>])> {
        let ports = case::by_port(self.ports);
        let of = ports.filter(move |(first, _)| first.generation == generation);
        of.map(|(first, group)| (&first.key, group))
    }

    pub(in crate::judge) fn knows_ports_of(&self, generation: Generation) -> bool {
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .all(|protocol| self.case.listeners_known(protocol, generation))
    }
}

/// The configuration, and whether it has changed since it was loaded; `None`: not all is known.
pub fn settled<'c>(input: &'c RuleInput<'_>) -> Option<(&'c Configuration, bool)> {
    let configuration = input.case.configuration.as_deref().filter(|c| c.complete)?;
    Some((configuration, input.case.config_has_changed()?))
}

/// While an edit waits for its reload, what differs is evidence of that, and nothing else.
pub fn unsettled(input: &RuleInput<'_>) -> Judgement {
    let waiting = settled(input).is_some();
    let gone = input.case.generations.up == Some(false);
    Judgement::if_known(waiting || gone, Vec::new())
}

/// No line of the configuration can be the cause of it.
pub fn is_undeclared(
    input: &RuleInput<'_>,
    configuration: &Configuration,
    port: &PortSockets<'_>,
) -> bool {
    let key = &port.key;
    let declared = input.case.places.declares(&configuration.ports, &port.endpoint());
    declared == Some(false) && !configuration.declared.may_bind(key.protocol, key.address, key.port)
}
