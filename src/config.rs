//! The exporter's own configuration: YAML in, checked policy out.

mod documents;
mod error;
mod raw;
mod reap;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracing::info;

use self::documents::Document;
pub use self::documents::text_of;
pub use self::error::Error;
use self::raw::Raw;
use crate::policy::Policy;
use crate::sample::Discovery;

/// A checked configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What the operator permits.
    pub policy: Policy,
    /// Which processes count as HAProxy.
    pub discovery: Discovery,
    /// The files that it was read from, in order.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads and checks a configuration file, or all `*.yaml` files of a directory as one
    /// configuration.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let documents = documents::read(path)?;
        if documents.is_empty() {
            info!(directory = %path.display(), "the configuration directory has no *.yaml file");
        }
        join(documents)
    }
}

/// Checks the documents of a configuration and merges them into one.
fn join(documents: Vec<(Document, Raw)>) -> Result<Config, Error> {
    let (documents, mut raws): (Vec<Document>, Vec<Raw>) = documents.into_iter().unzip();
    let mut shared = Raw::default();
    for raw in &mut raws {
        shared.complete_from(raw);
    }
    let mut config = Config { policy: shared.policy(), ..Config::default() };
    let mut places: BTreeMap<String, (&Document, usize)> = BTreeMap::new();
    for (document, raw) in documents.iter().zip(raws) {
        for (index, service) in raw.haproxys.into_iter().enumerate() {
            let configured = service.check(&config.policy.defaults);
            let configured = configured.map_err(|fault| document.invalid(index, &fault))?;
            let name = configured.name.clone();
            if let Some(first) = places.get(&name) {
                return Err(document.duplicate_name(index, &name, *first));
            }
            places.insert(name, (document, index));
            config.discovery.commands.extend(configured.matching.command.clone());
            config.discovery.pidfiles.extend(configured.matching.pidfile.clone());
            config.policy.haproxys.push(configured);
        }
    }
    config.files = documents.into_iter().map(|document| document.path).collect();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::model::Protocol;
    use crate::policy::kind::Kind;
    use crate::policy::{Ignore, Refusal};

    /// The configuration of one file with this text.
    fn parse(text: &str) -> Result<Config, String> {
        let document = Document::parse(Path::new("c.yaml"), text.to_owned());
        document.and_then(|document| join(vec![document])).map_err(|error| error.to_string())
    }

    /// An empty directory, which is removed when it is dropped.
    struct Directory(TempDir);

    impl Directory {
        fn new() -> Directory {
            Directory(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn write(&self, files: &[(&str, &str)]) {
            for (name, text) in files {
                fs::write(self.path().join(name), text).unwrap();
            }
        }

        /// The error without the path of the directory.
        fn error(&self) -> String {
            let error = Config::load(self.path()).unwrap_err().to_string();
            error.replace(&format!("{}/", self.path().display()), "")
        }
    }

    const EXAMPLE: &str = r#"
defaults:
  allowed_ports: ["80", 443, "tcp/10000-29999", "udp/443", "127.0.0.1:8404", "[::1]:9", "[fd00::/8]:10", "10.0.0.0/8:11"]
  reserved_ports: [{name: Kubernetes NodePort, ports: ["30000-32767", tcp/6443]}]
  stale_grace: 10s
  thresholds: {bound_ports: 50, stale_age: 2h}
haproxys:
  - name: lbagent
    match: {pidfile: /run/haproxy.pid, cgroup: "/kubepods*"}
    allowed_ports: ["20000-29999"]
    thresholds: {generations: 9}
    ignore: [{kind: port_ephemeral, port: 50000, reason: agreed with the network team, until: 2027-03-01}]
  - name: other
    match: {command: "^/opt/haproxy "}
    reserved_ports: []
metrics: {max_port_series: 7, max_series: 9000}
"#;

    #[test]
    fn every_key_is_read() {
        let config = parse(EXAMPLE).unwrap();
        let policy = config.policy;
        assert_eq!((policy.max_port_series, policy.max_series), (7, 9000));
        assert_eq!(policy.defaults.allowed_ports.as_ref().unwrap().len(), 8);
        let own = policy.rules("lbagent");
        assert_eq!(own.allowed_ports.as_ref().unwrap().len(), 1);
        assert_eq!(own.thresholds.generations.to_bits(), 9f64.to_bits());
        assert_eq!(own.thresholds.bound_ports.to_bits(), 50f64.to_bits());
        assert_eq!(own.thresholds.stale_age_seconds.to_bits(), 7200f64.to_bits());
        let any = "::".parse().unwrap();
        assert_eq!(own.refusal(Protocol::Udp, any, 20000), None);
        assert_eq!(own.refusal(Protocol::Tcp, any, 80), Some(Refusal::NotAllowed));
        let reserved = own.refusal(Protocol::Tcp, any, 6443).unwrap().reason();
        assert_eq!(reserved, "6443 is reserved for Kubernetes NodePort", "from defaults");
        assert_eq!(policy.rules("other").reserved_ports, [], "its own key replaces the default's");
    }

    #[test]
    fn an_ignore_entry_knows_its_haproxy_its_reason_and_its_end() {
        let policy = parse(EXAMPLE).unwrap().policy;
        let [entry] = policy.rules("lbagent").ignore.as_slice() else { panic!("{policy:?}") };
        let Ignore { haproxy, kind, port, address, reason, until } = entry.clone();
        assert_eq!((haproxy.as_deref(), kind), (Some("lbagent"), Some(Kind::PortEphemeral)));
        assert_eq!((port, address), (Some(50000), None));
        assert_eq!(reason.as_deref(), Some("agreed with the network team"));
        let until = until.unwrap();
        // 2027-03-01 is the last day on which it applies.
        assert_eq!((until.written.as_str(), until.end), ("2027-03-01", 1_803_945_600.0));
    }

    #[test]
    fn the_example_of_the_readme_is_valid() {
        let (_, section) = include_str!("../README.md").split_once("\n## Configuration\n").unwrap();
        let (_, example) = section.split_once("```yaml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let policy = parse(example).unwrap().policy;
        assert_eq!(policy.defaults.reserved_ports.len(), 1, "{example}");
        assert!(policy.rules("lbagent").ignore[0].until.is_some(), "{example}");
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        for text in ["", "# nothing\n", "defaults: {}\n"] {
            let policy = parse(text).unwrap().policy;
            assert!(policy.defaults.allowed_ports.is_none(), "{text:?}");
        }
        let none = parse("defaults: {allowed_ports: []}").unwrap().policy;
        assert_eq!(none.defaults.allowed_ports, Some(vec![]));
    }

    #[test]
    fn errors_have_position_and_remedy() {
        let table = [
            (
                "defaults:\n  stale_grase: 1s\n",
                "unknown field `stale_grase` (did you mean `stale_grace`?), expected one of `allowed_ports`",
                "line 2 column 3",
            ),
            (
                "default: {}\n",
                "unknown field `default` (did you mean `defaults`?)",
                "line 1 column 1",
            ),
            ("defaults:\n  colour: red\n", "unknown field `colour`, expected", "line 2 column 3"),
            (
                "haproxys:\n- {name: a, mtach: {pidfile: /x}}\n",
                "unknown field `mtach` (did you mean `match`?)",
                "line 2 column 13",
            ),
            ("defaults:\n  stale_grace: soon\n", "write it like 10s", "line 2 column 16"),
            ("defaults:\n  allowed_ports:\n  - 80\n  - 9-1\n", "write 1-9", "line 4 column 5"),
            ("defaults:\n  allowed_ports: ['::1:80']\n", "must be in brackets", "line 2"),
            ("defaults:\n  allowed_ports: [70000]\n", "from 1 to 65535", "line 2 column 19"),
            (
                "defaults:\n  ignore:\n  - kind: port_odd\n",
                "valid kinds: port_out",
                "line 3 column 11",
            ),
            (
                "defaults:\n  ignore:\n  - {port: 1, until: tomorrow}\n",
                "invalid date \"tomorrow\"",
                "line 3 column 22",
            ),
            (
                "defaults:\n  ignore:\n  - {port: 1, reason: ''}\n",
                "must not be empty",
                "line 3 column 23",
            ),
            (
                "defaults:\n  reserved_ports:\n  - {name: a, ports: ['::1:80']}\n",
                "has no address",
                "line 3 column 23",
            ),
            (
                "defaults:\n  reserved_ports:\n  - {ports: [1]}\n",
                "missing field `name`",
                "line 3 column 5",
            ),
            ("haproxys:\n- name: a\n", "missing field `match`", "line 2 column 3"),
            ("haproxys:\n- {name: a, match: {}}\n", "at least one of pidfile", "line 2 column 20"),
            (
                "haproxys:\n- {name: a, match: {pidfile: x}}\n",
                "haproxys[0].match.pidfile: must be an absolute path: x",
                "line 2 column 30",
            ),
            ("haproxys:\n- name: a\n  match: {command: '('}\n", "unclosed group", "line 3"),
            ("defaults:\n\tx: 1\n", "cannot start any token", "line 2 column 1"),
        ];
        for (text, what, position) in table {
            let message = parse(text).unwrap_err();
            assert!(message.contains(what), "{text:?}: {message}");
            assert!(message.contains(position), "{text:?}: {message}");
        }
        let twice =
            "haproxys:\n- {name: a, match: {pidfile: /x}}\n- {name: a, match: {pidfile: /y}}\n";
        assert_eq!(
            parse(twice).unwrap_err(),
            "c.yaml: duplicate name \"a\" at line 3 column 10; c.yaml has it at line 2 column 10: \
             rename one of the two"
        );
    }

    #[test]
    fn a_directory_is_one_configuration() {
        let directory = Directory::new();
        let (defaults, rest) = EXAMPLE.split_once("haproxys:").unwrap();
        let (haproxys, metrics) = rest.split_once("metrics:").unwrap();
        let (first, second) = haproxys.split_once("  - name: other").unwrap();
        directory.write(&[
            ("10-lbagent.yaml", &format!("haproxys:{first}")),
            ("20-other.yaml", &format!("haproxys:\n  - name: other{second}")),
            // Its defaults apply to services of files that come before it.
            ("30-defaults.yaml", defaults),
            ("40-empty.yaml", ""),
            (".hidden.yaml", "not: read"),
            ("metrics.yaml~", "not: read"),
            ("metrics.yaml.dpkg-old", "not: read"),
        ]);
        let elsewhere = Directory::new();
        elsewhere.write(&[("text", &format!("metrics:{metrics}"))]);
        symlink(elsewhere.path().join("text"), directory.path().join("metrics.yaml")).unwrap();
        fs::create_dir(directory.path().join("sub.yaml")).unwrap();
        fs::write(directory.path().join("sub.yaml/a.yaml"), "not: read").unwrap();
        let parts = Config::load(directory.path()).unwrap();
        let whole = parse(EXAMPLE).unwrap();
        assert_eq!(format!("{:?}", parts.policy), format!("{:?}", whole.policy));
        assert_eq!(format!("{:?}", parts.discovery), format!("{:?}", whole.discovery));
        let names: Vec<_> =
            parts.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "10-lbagent.yaml",
                "20-other.yaml",
                "30-defaults.yaml",
                "40-empty.yaml",
                "metrics.yaml"
            ]
        );
    }

    #[test]
    fn an_empty_directory_is_a_configuration() {
        let directory = Directory::new();
        let config = Config::load(directory.path()).unwrap();
        assert!(config.files.is_empty() && config.policy.haproxys.is_empty());
    }

    #[test]
    fn errors_in_a_directory_name_the_file_and_the_place() {
        let service = |name: &str| format!("haproxys:\n- match: {{pidfile: /a}}\n  name: {name}\n");
        let (a, b) = (service("a"), service("b"));
        let metrics = format!("# ours\nmetrics: {{max_series: 7}}\n{b}");
        let table: [(&[(&str, &str)], &str); 6] = [
            (
                &[("a.yaml", &a), ("b.yaml", &b), ("c.yaml", &a)],
                "c.yaml: duplicate name \"a\" at line 3 column 9; a.yaml has it at line 3 column 9: \
                 rename one of the two",
            ),
            (
                &[("a.yaml", &metrics), ("b.yaml", "defaults: {}\nmetrics: {}\n")],
                "b.yaml: duplicate key metrics at line 2 column 1; a.yaml has it at line 2 column 1: \
                 write it in one file only",
            ),
            (
                &[("a.yaml", "defaults: {}\n"), ("b.yaml", "defaults:\n")],
                "b.yaml: duplicate key defaults at line 1 column 1; a.yaml has it at line 1 \
                 column 1: write it in one file only",
            ),
            (
                &[("a.yaml", &a), ("b.yaml", "defaults: {stale_grace: soon}\n")],
                "b.yaml: defaults.stale_grace: invalid duration \"soon\": expected number at 0; \
                 write it like 10s, 5m or 24h at line 1 column 25",
            ),
            (
                &[("a.yaml", &a), ("b.yaml", "haproxys:\n- {name: c, match: {}}\n")],
                "b.yaml: haproxys[0].match: match is empty; set at least one of pidfile, config, \
                 master_socket, command, cgroup at line 2 column 20",
            ),
            (&[("a.yaml", &a), ("b.yaml", "- a\n")], "b.yaml: invalid type: sequence"),
        ];
        for (files, expected) in table {
            let directory = Directory::new();
            directory.write(files);
            let error = directory.error();
            assert!(error.starts_with(expected), "{files:?}: {error}");
        }
        let directory = Directory::new();
        symlink("/nonexistent", directory.path().join("a.yaml")).unwrap();
        assert_eq!(directory.error(), "a.yaml: No such file or directory (os error 2)");
        fs::remove_file(directory.path().join("a.yaml")).unwrap();
        symlink("/dev/null", directory.path().join("a.yaml")).unwrap();
        assert_eq!(directory.error(), "a.yaml: is not a regular file");
    }
}
