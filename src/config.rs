//! The exporter's own configuration: YAML in, checked policy out.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use regex::Regex;
use serde::Deserialize;

use crate::model::Protocol;
use crate::policy::kind::Kind;
use crate::policy::{AllowedPort, Configured, Ignore, Match, Policy, Rules, Thresholds};
use crate::sample::Discovery;
use crate::yaml::{self, Word};

/// A configuration is written by hand; what is larger is something else.
const LIMIT_BYTES: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read: check the path and its rights.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be; the message has the position.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what would be right.
        message: String,
    },
}

/// A configuration, checked.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What is permitted.
    pub policy: Policy,
    /// What counts as HAProxy.
    pub discovery: Discovery,
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let text = text_of(path)?;
        Config::parse(&text).map_err(|message| Error::Invalid { path: path.to_owned(), message })
    }

    /// Reads the text of a configuration. The error is a message with its position.
    pub fn parse(text: &str) -> Result<Config, String> {
        yaml::parse::<Raw>(text)?.unwrap_or_default().check()
    }
}

/// The text of a configuration file.
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
    haproxys: Vec<RawHaproxy>,
    #[serde(default)]
    metrics: RawMetrics,
}

// `flatten` would forgo the positions of unknown keys, so the rules stand here once more.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHaproxy {
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
    address: Option<Word<IpAddr>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    max_port_series: Option<usize>,
}

impl Raw {
    fn check(self) -> Result<Config, String> {
        let defaults = self.defaults.over(&Rules::default());
        let mut policy = Policy { defaults, ..Policy::default() };
        if let Some(max) = self.metrics.max_port_series {
            policy.max_port_series = max;
        }
        let mut discovery = Discovery::default();
        for (index, raw) in self.haproxys.into_iter().enumerate() {
            let configured = raw.check(&policy.defaults);
            let configured = configured.map_err(|why| format!("haproxys[{index}]: {why}"))?;
            if policy.is_configured(&configured.name) {
                let name = configured.name;
                return Err(format!("haproxys[{index}]: the name {name:?} stands twice"));
            }
            discovery.commands.extend(configured.matching.command.clone());
            discovery.pidfiles.extend(configured.matching.pidfile.clone());
            policy.haproxys.push(configured);
        }
        Ok(Config { policy, discovery })
    }
}

impl RawHaproxy {
    fn check(self, defaults: &Rules) -> Result<Configured, String> {
        if self.name.is_empty() {
            return Err("the name is empty".to_owned());
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
    /// What is given replaces what `defaults` say; of the thresholds each by itself.
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
            return Err(format!("match: {} is no absolute path", path.display()));
        }
        let given = paths.into_iter().any(Option::is_some);
        if !given && matching.command.is_none() && matching.cgroup.is_none() {
            return Err("match is empty; give at least one of pidfile, config, master_socket, \
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
            address: self.address.map(|word| word.0),
        }
    }
}

fn words<T>(words: Vec<Word<T>>) -> Vec<T> {
    words.into_iter().map(|word| word.0).collect()
}

/// A duration like `10s`, `1h 30m`.
#[derive(Debug)]
struct Seconds(f64);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration: Duration = humantime::parse_duration(text)
            .map_err(|why| format!("{why}; write a duration like 10s, 5m or 24h"))?;
        Ok(Seconds(duration.as_secs_f64()))
    }
}

#[derive(Debug)]
struct PortNumber(u16);

impl FromStr for PortNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|&port| port != 0);
        number.map(PortNumber).ok_or_else(|| "a port is a number from 1 to 65535".to_owned())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Kind::from_name(text).ok_or_else(|| {
            let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("no such kind; there are {}", kinds.join(", "))
        })
    }
}

/// A regular expression; its error on one line.
#[derive(Debug)]
struct Pattern(Regex);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Pattern).map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            format!("no regular expression: {}", reason.trim_start_matches("error: "))
        })
    }
}

/// `*` fits any number of characters, slashes too, and `?` one.
#[derive(Debug)]
struct Glob(Regex);

impl FromStr for Glob {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        let pattern = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
        Regex::new(&format!("^{pattern}$")).map(Glob)
    }
}

impl FromStr for AllowedPort {
    type Err = String;

    /// `[tcp/|udp/][ADDRESS|NETWORK:]LOW[-HIGH]`, IPv6 in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, rest) = match text.split_once('/') {
            Some(("tcp", rest)) => (Some(Protocol::Tcp), rest),
            Some(("udp", rest)) => (Some(Protocol::Udp), rest),
            _ => (None, text),
        };
        let (address, ports) = match rest.rsplit_once(':') {
            Some((address, ports)) => (Some(network(address)?), ports),
            None => (None, rest),
        };
        let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
        let (low, high): (PortNumber, PortNumber) = (low.parse()?, high.parse()?);
        if low.0 > high.0 {
            return Err(format!("the range goes down; write {}-{}", high.0, low.0));
        }
        Ok(AllowedPort { protocol, address, ports: low.0..=high.0 })
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let inner = match text.strip_prefix('[') {
        // Both [2001:db8::]/32 and [2001:db8::/32].
        Some(rest) => rest.replacen(']', "", 1),
        None if text.contains(':') => {
            return Err(format!("an IPv6 address stands in brackets: [{text}]:PORT"));
        }
        None => text.to_owned(),
    };
    let address = inner.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| inner.parse())
        .map_err(|_| format!("{text:?} is neither an IP address nor a network like 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
metrics: {max_port_series: 7}
"#;

    #[test]
    fn the_contracts_example_is_read() {
        let config = Config::parse(EXAMPLE).unwrap();
        let policy = config.policy;
        assert_eq!(policy.max_port_series, 7);
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
    fn nothing_is_a_configuration() {
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
            ("defaults:\n  stale_grace: soon\n", "write a duration like 10s", "line 2 column 16"),
            ("defaults:\n  allowed_ports:\n  - 80\n  - 9-1\n", "write 1-9", "line 4 column 5"),
            ("defaults:\n  allowed_ports: ['::1:80']\n", "stands in brackets", "line 2"),
            ("defaults:\n  allowed_ports: [70000]\n", "from 1 to 65535", "line 2 column 19"),
            (
                "defaults:\n  ignore:\n  - kind: port_odd\n",
                "there are port_out",
                "line 3 column 11",
            ),
            ("haproxys:\n- name: a\n", "missing field `match`", "line 2 column 3"),
            ("haproxys:\n- {name: a, match: {}}\n", "at least one of pidfile", "haproxys[0]"),
            ("haproxys:\n- {name: a, match: {pidfile: x}}\n", "no absolute path", "haproxys[0]"),
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
        assert!(Config::parse(twice).unwrap_err().contains("stands twice"));
    }

    #[test]
    fn a_glob_fits_the_whole_path() {
        let glob: Glob = "/kubepods*/pod?/x.y".parse().unwrap();
        assert!(glob.0.is_match("/kubepods/burst/pod1/x.y"));
        assert!(!glob.0.is_match("/kubepods/burst/pod1/xzy"));
        assert!(!glob.0.is_match("/a/kubepods/pod1/x.y"));
    }
}
