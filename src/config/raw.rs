//! The keys of the configuration as they are read, and how each becomes a checked value of the policy.

use std::path::PathBuf;

use serde::Deserialize;

use super::reap::RawReap;
use super::values::{Absolute, Address, Glob, Label, Pattern, PortNumber, Seconds};
use crate::policy::kind::Kind;
use crate::policy::{
    AllowedPort, Configured, Ignore, Match, Policy, ReservedPorts, ReservedRange, Rules,
    Thresholds, Until,
};
use crate::yaml::Word;

/// A document as it was read. Every key but `haproxys` may be in only one document of a configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The rules for every service.
    pub defaults: Option<RawRules>,
    /// The services that have a name.
    #[serde(default)]
    pub haproxys: Vec<RawService>,
    /// The limits of the page of metrics.
    pub metrics: Option<RawMetrics>,
    /// Where backups lie.
    pub backup: Option<RawBackup>,
}

impl Raw {
    /// Takes from another document what this one lacks. Their `haproxys` stay apart, because an error
    /// in one must name its document.
    pub fn complete_from(&mut self, other: &mut Raw) {
        self.defaults = self.defaults.take().or_else(|| other.defaults.take());
        self.metrics = self.metrics.take().or_else(|| other.metrics.take());
        self.backup = self.backup.take().or_else(|| other.backup.take());
    }

    /// The policy that these keys make, without any service.
    pub fn policy(self) -> Policy {
        let mut policy = Policy::default();
        policy.defaults = self.defaults.unwrap_or_default().over(&policy.defaults, None);
        let metrics = self.metrics.unwrap_or_default();
        policy.max_port_series = metrics.max_port_series.unwrap_or(policy.max_port_series);
        policy.max_series = metrics.max_series.unwrap_or(policy.max_series);
        policy.backup_directory = self.backup.map(|backup| backup.directory.0.0);
        policy
    }
}

/// What is wrong with a value that could be read, for [`crate::yaml::message_at`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The keys that lead to the value, from the service on.
    pub keys: &'static [&'static str],
    /// What is wrong with it, and how to correct it.
    pub message: String,
}

// The keys of `RawRules` again: serde's `flatten` would lose the positions of unknown keys.
/// An entry of `haproxys`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawService {
    name: String,
    #[serde(rename = "match")]
    matching: RawMatch,
    allowed_ports: Option<Vec<Word<AllowedPort>>>,
    reserved_ports: Option<Vec<RawReserved>>,
    stale_grace: Option<Word<Seconds>>,
    reload_grace: Option<Word<Seconds>>,
    forget_after: Option<Word<Seconds>>,
    #[serde(default)]
    thresholds: RawThresholds,
    ignore: Option<Vec<RawIgnore>>,
    reap: Option<RawReap>,
}

/// The rules of `defaults`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRules {
    allowed_ports: Option<Vec<Word<AllowedPort>>>,
    reserved_ports: Option<Vec<RawReserved>>,
    stale_grace: Option<Word<Seconds>>,
    reload_grace: Option<Word<Seconds>>,
    forget_after: Option<Word<Seconds>>,
    #[serde(default)]
    thresholds: RawThresholds,
    ignore: Option<Vec<RawIgnore>>,
    reap: Option<RawReap>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatch {
    pidfile: Option<PathBuf>,
    config: Option<PathBuf>,
    master_socket: Option<PathBuf>,
    command: Option<Word<Pattern>>,
    cgroup: Option<Word<Glob>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawThresholds {
    bound_ports: Option<u32>,
    stale_processes: Option<u32>,
    generations: Option<u32>,
    stale_age: Option<Word<Seconds>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIgnore {
    kind: Option<Word<Kind>>,
    port: Option<Word<PortNumber>>,
    address: Option<Word<Address>>,
    reason: Option<Word<Label>>,
    until: Option<Word<Until>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReserved {
    name: Word<Label>,
    ports: Vec<Word<ReservedRange>>,
}

/// Where backups lie.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBackup {
    directory: Word<Absolute>,
}

/// The limits of the page of metrics.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMetrics {
    max_port_series: Option<usize>,
    max_series: Option<usize>,
}

impl RawService {
    /// The checked entry, completed from `defaults`.
    pub fn check(self, defaults: &Rules) -> Result<Configured, Fault> {
        if self.name.is_empty() {
            let message = "the name must not be empty".to_owned();
            return Err(Fault { keys: &["name"], message });
        }
        let matching = self.matching.check()?;
        let rules = RawRules {
            allowed_ports: self.allowed_ports,
            reserved_ports: self.reserved_ports,
            stale_grace: self.stale_grace,
            reload_grace: self.reload_grace,
            forget_after: self.forget_after,
            thresholds: self.thresholds,
            ignore: self.ignore,
            reap: self.reap,
        };
        let rules = rules.over(defaults, Some(&self.name));
        Ok(Configured { name: self.name, matching, rules })
    }
}

impl RawRules {
    /// Completes these rules from `defaults`. Each threshold is completed by itself. `haproxy`: the
    /// service that they are for; `None` if they are for all.
    fn over(self, defaults: &Rules, haproxy: Option<&str>) -> Rules {
        let seconds = |given: Option<Word<Seconds>>, default| given.map_or(default, |s| s.0.0);
        let old = defaults.thresholds;
        let new = self.thresholds;
        Rules {
            allowed_ports: self.allowed_ports.map(words).or_else(|| defaults.allowed_ports.clone()),
            reserved_ports: self.reserved_ports.map_or_else(
                || defaults.reserved_ports.clone(),
                |list| list.into_iter().map(RawReserved::check).collect(),
            ),
            stale_grace_seconds: seconds(self.stale_grace, defaults.stale_grace_seconds),
            reload_grace_seconds: seconds(self.reload_grace, defaults.reload_grace_seconds),
            forget_after_seconds: seconds(self.forget_after, defaults.forget_after_seconds),
            thresholds: Thresholds {
                bound_ports: new.bound_ports.map_or(old.bound_ports, f64::from),
                stale_processes: new.stale_processes.map_or(old.stale_processes, f64::from),
                generations: new.generations.map_or(old.generations, f64::from),
                stale_age_seconds: seconds(new.stale_age, old.stale_age_seconds),
            },
            ignore: self.ignore.map_or_else(
                || defaults.ignore.clone(),
                |list| list.into_iter().map(|entry| entry.check(haproxy)).collect(),
            ),
            reap: match self.reap {
                Some(own) => Some(own.over(defaults.reap.clone().unwrap_or_default())),
                None => defaults.reap.clone(),
            },
        }
    }
}

impl RawMatch {
    fn check(self) -> Result<Match, Fault> {
        let matching = Match {
            pidfile: self.pidfile,
            config: self.config,
            master_socket: self.master_socket,
            command: self.command.map(|word| word.0.0),
            cgroup: self.cgroup.map(|word| word.0.0),
        };
        let paths: [(&'static [&'static str], &Option<PathBuf>); 3] = [
            (&["match", "pidfile"], &matching.pidfile),
            (&["match", "config"], &matching.config),
            (&["match", "master_socket"], &matching.master_socket),
        ];
        let given = || paths.iter().filter_map(|(keys, path)| Some((*keys, path.as_ref()?)));
        if let Some((keys, path)) = given().find(|(_, path)| !path.is_absolute()) {
            let message = format!("must be an absolute path: {}", path.display());
            return Err(Fault { keys, message });
        }
        if given().next().is_none() && matching.command.is_none() && matching.cgroup.is_none() {
            let message = "match is empty; set at least one of pidfile, config, master_socket, \
                           command, cgroup";
            return Err(Fault { keys: &["match"], message: message.to_owned() });
        }
        Ok(matching)
    }
}

impl RawIgnore {
    fn check(self, haproxy: Option<&str>) -> Ignore {
        Ignore {
            haproxy: haproxy.map(str::to_owned),
            kind: self.kind.map(|word| word.0),
            port: self.port.map(|word| word.0.0),
            address: self.address.map(|word| word.0.0),
            reason: self.reason.map(|word| word.0.0),
            until: self.until.map(|word| word.0),
        }
    }
}

impl RawReserved {
    fn check(self) -> ReservedPorts {
        ReservedPorts { name: self.name.0.0, ranges: words(self.ports) }
    }
}

fn words<T>(words: Vec<Word<T>>) -> Vec<T> {
    words.into_iter().map(|word| word.0).collect()
}
