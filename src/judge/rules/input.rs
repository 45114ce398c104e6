//! What a rule gets to see of one service.

use std::collections::BTreeSet;

use crate::haproxy::lineage::generations::Generation;
use crate::judge::case::{self, Case, PortSockets};
use crate::judge::finding::Judgement;
use crate::judge::owners::Owners;
use crate::judge::verdict::PortKey;
use crate::model::{Configuration, Protocol};

/// Everything that a rule may look at.
#[derive(Debug)]
pub struct RuleInput<'a> {
    /// The service.
    pub case: &'a Case<'a>,
    /// The sockets on which its processes listen.
    pub ports: &'a [PortSockets<'a>],
    /// The name and the sockets of every other service that shares a port with one.
    pub others: &'a [(&'a str, &'a [PortSockets<'a>])],
    /// The ports at which connections were dropped since the last sample.
    pub dropping: &'a BTreeSet<PortKey>,
    /// The services that hold sockets on the ports in question.
    pub owners: &'a Owners<'a>,
}

impl<'a> RuleInput<'a> {
    /// The sockets on which the processes of one generation listen.
    pub fn ports_of(&self, generation: Generation) -> impl Iterator<Item = &'a PortSockets<'a>> {
        self.ports.iter().filter(move |port| port.generation == generation)
    }

    /// The same sockets, grouped by port.
    pub fn by_port(
        &self,
        generation: Generation,
    ) -> impl Iterator<Item = (&'a PortKey, &'a [PortSockets<'a>])> {
        let ports = case::by_port(self.ports);
        let of = ports.filter(move |(first, _)| first.generation == generation);
        of.map(|(first, group)| (&first.key, group))
    }

    /// Every listener of that generation is known.
    pub fn knows_ports_of(&self, generation: Generation) -> bool {
        let known = |protocol| self.case.listeners_known(protocol, generation);
        Protocol::ALL.into_iter().all(known)
    }

    /// The configuration, if all of it is known and it is the one that serves; else the answer of a
    /// rule that compares the two. While an edited configuration waits for its reload, a difference
    /// is evidence of that and of nothing else.
    pub fn loaded_configuration(&self) -> Result<&'a Configuration, Judgement> {
        let case = self.case;
        let configuration = case.configuration.as_deref().filter(|found| found.complete);
        match (configuration, case.config_has_changed()) {
            (Some(configuration), Some(false)) => Ok(configuration),
            (Some(_), Some(true)) => Err(Judgement::of(Vec::new())),
            _ => Err(Judgement::if_known(case.generations.up == Some(false), Vec::new())),
        }
    }

    /// The edited configuration on disk and the one that the serving processes loaded. `None` if there
    /// was no edit, or if what they loaded was not seen.
    pub fn edited_configuration(&self) -> Option<(&'a Configuration, &'a Configuration)> {
        let edited = self.case.configuration.as_deref().filter(|found| found.complete)?;
        let changed = self.case.config_has_changed() == Some(true);
        changed.then_some((edited, self.case.loaded_configuration()?))
    }

    /// No line of the configuration can have bound the port.
    pub fn is_undeclared(&self, configuration: &Configuration, port: &PortSockets<'_>) -> bool {
        let PortKey { protocol, address, port: number, .. } = port.key;
        let declared = self.case.places.declares(&configuration.ports, &port.endpoint());
        declared == Some(false) && !configuration.declared.may_bind(protocol, address, number)
    }
}
