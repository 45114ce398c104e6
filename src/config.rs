//! The exporter's own configuration file: YAML in, checked policy out.

mod values;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::values::{Address, Glob, Pattern, PortNumber, Seconds};
use crate::policy::kind::Kind;
use crate::policy::{AllowedPort, Configured, Ignore, Match, Policy, Rules, Thresholds};
use crate::sample::Discovery;
use crate::yaml::{self, Word};

/// The most bytes of a configuration file that are read. A file written by hand is far smaller.
const LIMIT_BYTES: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read: check its path and permissions.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The content is invalid: the message has the position and the remedy.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and how to correct it.
        message: String,
    },
}

/// A checked configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What the operator permits.
    pub policy: Policy,
    /// Which processes count as HAProxy.
    pub discovery: Discovery,
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let text = text_of(path)?;
        Config::parse(&text).map_err(|message| Error::Invalid { path: path.to_owned(), message })
    }

    /// Reads and checks the text of a configuration. The error is a message with its position.
    pub fn parse(text: &str) -> Result<Config, String> {
        yaml::parse::<Raw>(text)?.unwrap_or_default().check()
    }
}

/// Reads the text of a configuration file.
pub fn text_of(path: &Path) -> Result<String, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LIMIT_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    defaults: RawRules,
    #[serde(default)]
    haproxys: Vec<RawService>,
    #[serde(default)]
    metrics: RawMetrics,
}

// The keys of `RawRules` again: serde's `flatten` would lose the positions of unknown keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    name: String,
    #[serde(rename = "match")]
    matching: RawMatch,
    allowed_ports: Option<Vec<Word<AllowedPort>>>,
    stale_grace: Option<Word<Seconds>>,
    reload_grace: Option<Word<Seconds>>,
    forget_after: Option<Word<Seconds>>,
    #[serde(default)]
    thresholds: RawThresholds,
    ignore: Option<Vec<RawIgnore>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRules {
    allowed_ports: Option<Vec<Word<AllowedPort>>>,
    stale_grace: Option<Word<Seconds>>,
    reload_grace: Option<Word<Seconds>>,
    forget_after: Option<Word<Seconds>>,
    #[serde(default)]
    thresholds: RawThresholds,
    ignore: Option<Vec<RawIgnore>>,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    max_port_series: Option<usize>,
    max_series: Option<usize>,
}

impl Raw {
    fn check(self) -> Result<Config, String> {
        let defaults = self.defaults.over(&Rules::default());
        let mut policy = Policy { defaults, ..Policy::default() };
        if let Some(max) = self.metrics.max_port_series {
            policy.max_port_series = max;
        }
        if let Some(max) = self.metrics.max_series {
            policy.max_series = max;
        }
        let mut discovery = Discovery::default();
        for (index, raw) in self.haproxys.into_iter().enumerate() {
            let configured = raw.check(&policy.defaults);
            let configured = configured.map_err(|why| format!("haproxys[{index}]: {why}"))?;
            if policy.is_configured(&configured.name) {
                let name = configured.name;
                return Err(format!("haproxys[{index}]: duplicate name {name:?}"));
            }
            discovery.commands.extend(configured.matching.command.clone());
            discovery.pidfiles.extend(configured.matching.pidfile.clone());
            policy.haproxys.push(configured);
        }
        Ok(Config { policy, discovery })
    }
}

impl RawService {
    fn check(self, defaults: &Rules) -> Result<Configured, String> {
        if self.name.is_empty() {
            return Err("the name must not be empty".to_owned());
        }
        let matching = self.matching.check()?;
        let rules = RawRules {
            allowed_ports: self.allowed_ports,
            stale_grace: self.stale_grace,
            reload_grace: self.reload_grace,
            forget_after: self.forget_after,
            thresholds: self.thresholds,
            ignore: self.ignore,
        };
        Ok(Configured { name: self.name, matching, rules: rules.over(defaults) })
    }
}

impl RawRules {
    /// Completes these rules from `defaults`. Each threshold is completed by itself.
    fn over(self, defaults: &Rules) -> Rules {
        let seconds = |given: Option<Word<Seconds>>, default| given.map_or(default, |s| s.0.0);
        let old = defaults.thresholds;
        let new = self.thresholds;
        Rules {
            allowed_ports: self.allowed_ports.map(words).or_else(|| defaults.allowed_ports.clone()),
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
                |list| list.into_iter().map(RawIgnore::check).collect(),
            ),
        }
    }
}

impl RawMatch {
    fn check(self) -> Result<Match, String> {
        let matching = Match {
            pidfile: self.pidfile,
            config: self.config,
            master_socket: self.master_socket,
            command: self.command.map(|word| word.0.0),
            cgroup: self.cgroup.map(|word| word.0.0),
        };
        let paths = [&matching.pidfile, &matching.config, &matching.master_socket];
        if let Some(path) = paths.into_iter().flatten().find(|path| !path.is_absolute()) {
            return Err(format!("match: must be an absolute path: {}", path.display()));
        }
        let given = paths.into_iter().any(Option::is_some);
        if !given && matching.command.is_none() && matching.cgroup.is_none() {
            return Err("match is empty; set at least one of pidfile, config, master_socket, \
                        command, cgroup"
                .to_owned());
        }
        Ok(matching)
    }
}

impl RawIgnore {
    fn check(self) -> Ignore {
        Ignore {
            kind: self.kind.map(|word| word.0),
            port: self.port.map(|word| word.0.0),
            address: self.address.map(|word| word.0.0),
        }
    }
}

fn words<T>(words: Vec<Word<T>>) -> Vec<T> {
    words.into_iter().map(|word| word.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    const EXAMPLE: &str = r#"
defaults:
  allowed_ports: ["80", 443, "tcp/10000-29999", "udp/443", "127.0.0.1:8404", "[::1]:9", "[fd00::/8]:10", "10.0.0.0/8:11"]
  stale_grace: 10s
  thresholds: {bound_ports: 50, stale_age: 2h}
haproxys:
  - name: lbagent
    match: {pidfile: /run/haproxy.pid, cgroup: "/kubepods*"}
    allowed_ports: ["20000-29999"]
    thresholds: {generations: 9}
    ignore: [{kind: port_ephemeral, port: 50000}]
metrics: {max_port_series: 7, max_series: 9000}
"#;

    #[test]
    fn every_key_is_read() {
        let config = Config::parse(EXAMPLE).unwrap();
        let policy = config.policy;
        assert_eq!((policy.max_port_series, policy.max_series), (7, 9000));
        assert_eq!(policy.defaults.allowed_ports.as_ref().unwrap().len(), 8);
        let own = policy.rules("lbagent");
        assert_eq!(own.allowed_ports.as_ref().unwrap().len(), 1);
        assert_eq!(own.thresholds.generations.to_bits(), 9f64.to_bits());
        assert_eq!(own.thresholds.bound_ports.to_bits(), 50f64.to_bits());
        assert_eq!(own.thresholds.stale_age_seconds.to_bits(), 7200f64.to_bits());
        assert_eq!(own.ignore[0].port, Some(50000));
        assert!(own.allows(Protocol::Udp, "::".parse().unwrap(), 20000));
        assert!(!own.allows(Protocol::Tcp, "::".parse().unwrap(), 80));
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        for text in ["", "# nothing\n", "defaults: {}\n"] {
            let policy = Config::parse(text).unwrap().policy;
            assert!(policy.defaults.allowed_ports.is_none(), "{text:?}");
        }
        let none = Config::parse("defaults: {allowed_ports: []}").unwrap().policy;
        assert_eq!(none.defaults.allowed_ports, Some(vec![]));
    }

    #[test]
    fn errors_have_position_and_remedy() {
        let table = [
            ("defaults:\n  stale_grase: 1s\n", "unknown field `stale_grase`", "line 2 column 3"),
            ("defaults:\n  stale_grace: soon\n", "write it like 10s", "line 2 column 16"),
            ("defaults:\n  allowed_ports:\n  - 80\n  - 9-1\n", "write 1-9", "line 4 column 5"),
            ("defaults:\n  allowed_ports: ['::1:80']\n", "must be in brackets", "line 2"),
            ("defaults:\n  allowed_ports: [70000]\n", "from 1 to 65535", "line 2 column 19"),
            (
                "defaults:\n  ignore:\n  - kind: port_odd\n",
                "valid kinds: port_out",
                "line 3 column 11",
            ),
            ("haproxys:\n- name: a\n", "missing field `match`", "line 2 column 3"),
            ("haproxys:\n- {name: a, match: {}}\n", "at least one of pidfile", "haproxys[0]"),
            (
                "haproxys:\n- {name: a, match: {pidfile: x}}\n",
                "must be an absolute path: x",
                "haproxys[0]",
            ),
            ("haproxys:\n- name: a\n  match: {command: '('}\n", "unclosed group", "line 3"),
            ("defaults:\n\tx: 1\n", "cannot start any token", "line 2 column 1"),
        ];
        for (text, what, position) in table {
            let message = Config::parse(text).unwrap_err();
            assert!(message.contains(what), "{text:?}: {message}");
            assert!(message.contains(position), "{text:?}: {message}");
        }
        let twice =
            "haproxys:\n- {name: a, match: {pidfile: /x}}\n- {name: a, match: {pidfile: /y}}\n";
        assert!(Config::parse(twice).unwrap_err().contains("duplicate name \"a\""));
    }
}
