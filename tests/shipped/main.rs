//! What is shipped beside the binary (alerts, runbooks, Alertmanager, Prometheus), held together by
//! closure tests and driven through the tools of those who will use it: promtool, amtool, pint.
//!
//! promtool and amtool are used in every version of tests/versions. pint is skipped where there is no Go
//! to build it with, and that is said.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod alertmanager;
mod closure;
mod pint;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn yaml(path: &Path) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// Files of a directory whose name ends so, in order.
fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let directory = root().join(directory);
    let mut found: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|why| panic!("{}: {why}", directory.display()))
        .map(|entry| entry.expect("a readable directory entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} has no *{ending}", directory.display());
    found
}

fn stem<'a>(path: &'a Path, ending: &str) -> &'a str {
    let name = path.file_name().and_then(|name| name.to_str()).expect("a file name in UTF-8");
    name.strip_suffix(ending).expect("the ending it was found by")
}

/// Runs a command in the crate's root and returns what it printed; fails the test when the command fails.
fn run(command: &mut Command) -> String {
    let said = command
        .current_dir(root())
        .output()
        .unwrap_or_else(|why| panic!("{command:?}: {why} (tests/install installs the tools)"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    assert!(said.status.success(), "{command:?}: {}\n{text}", said.status);
    text
}

/// The tool in every version that tests/install installed.
fn versions_of(tool: &str, cache: &str) -> Vec<PathBuf> {
    let cache = root().join("tests/.cache").join(cache);
    let versions = fs::read_dir(&cache)
        .unwrap_or_else(|why| panic!("{}: {why}: run tests/install", cache.display()));
    let found: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join(tool)).collect();
    assert!(!found.is_empty(), "{} is empty: run tests/install", cache.display());
    found
}

/// One alerting rule as it is in its file.
struct Alert {
    name: String,
    severity: String,
    expr: String,
    /// Every text a template may stand in.
    texts: Vec<String>,
    wait: u64,
    keep: u64,
    dashboard: String,
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// `1h15m` in seconds.
fn seconds(duration: &str) -> u64 {
    let mut total = 0;
    let mut number = 0;
    for letter in duration.chars() {
        match letter {
            '0'..='9' => number = number * 10 + u64::from(letter.to_digit(10).expect("a digit")),
            unit => {
                total += number
                    * match unit {
                        'd' => 86_400,
                        'h' => 3_600,
                        'm' => 60,
                        's' => 1,
                        _ => panic!("duration {duration}"),
                    };
                number = 0;
            }
        }
    }
    total
}

fn rules() -> Vec<Value> {
    files("alerts", ".rules.yaml")
        .iter()
        .flat_map(|path| yaml(path)["groups"].as_sequence().expect("groups").clone())
        .flat_map(|group| group["rules"].as_sequence().expect("rules").clone())
        .collect()
}

fn alerts() -> Vec<Alert> {
    rules()
        .iter()
        .filter(|rule| rule.get("alert").is_some())
        .map(|rule| Alert {
            name: text(rule, "alert"),
            severity: text(&rule["labels"], "severity"),
            expr: text(rule, "expr"),
            texts: rule["annotations"]
                .as_mapping()
                .expect("annotations")
                .values()
                .map(|value| value.as_str().expect("a text").to_owned())
                .collect(),
            wait: seconds(&text(rule, "for")),
            keep: seconds(&text(rule, "keep_firing_for")),
            dashboard: text(&rule["annotations"], "dashboard_url"),
        })
        .collect()
}

/// What the exporter exports, as it is written down: type and labels by metric, and the kinds.
struct Golden {
    metrics: BTreeMap<String, (String, Vec<String>)>,
    kinds: BTreeSet<String>,
}

fn golden() -> Golden {
    let mut golden = Golden { metrics: BTreeMap::new(), kinds: BTreeSet::new() };
    for line in read(&root().join("tests/golden/catalogue.txt")).lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["metric", name, kind, labels] => {
                let labels =
                    labels.split(',').filter(|label| *label != "-").map(str::to_owned).collect();
                golden.metrics.insert(name.to_owned(), (kind.to_owned(), labels));
            }
            ["kind", name] => {
                golden.kinds.insert(name.to_owned());
            }
            _ => assert!(line.starts_with('#'), "catalogue: {line}"),
        }
    }
    golden
}

/// Every `haproxy_host_…` in a text that is not part of a recorded name, with what follows it.
fn metrics_in(text: &str) -> Vec<(&str, &str)> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    text.match_indices("haproxy_host_")
        .filter(|(at, _)| *at == 0 || !word(text.as_bytes()[at - 1]))
        .map(|(at, _)| {
            let rest = &text[at..];
            let end = rest.bytes().position(|byte| !word(byte)).unwrap_or(rest.len());
            rest.split_at(end)
        })
        .filter(|(name, _)| !name.contains(':'))
        .collect()
}

/// `{a="x",b=~"y|z"}` at the start of a text, as (label, values).
fn matchers(text: &str) -> Vec<(String, Vec<String>)> {
    let Some(inside) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return Vec::new();
    };
    inside
        .0
        .split(',')
        .map(|matcher| {
            let (label, value) =
                matcher.split_once(['=', '!']).unwrap_or_else(|| panic!("matcher {matcher}"));
            let value = value.trim_start_matches(['=', '~']).trim_matches('"');
            (label.trim().to_owned(), value.split('|').map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn rules_load() {
    for promtool in versions_of("promtool", "prometheus") {
        run(Command::new(promtool)
            .args(["check", "rules", "--lint=all", "--lint-fatal"])
            .args(files("alerts", ".rules.yaml")));
    }
}

#[test]
fn rules_fire_when_they_should() {
    std::thread::scope(|scope| {
        for promtool in versions_of("promtool", "prometheus") {
            scope.spawn(|| {
                let tests = files("alerts/tests", ".test.yaml");
                run(Command::new(promtool).args(["test", "rules"]).args(tests));
            });
        }
    });
}

#[test]
fn prometheus_takes_its_configuration() {
    for promtool in versions_of("promtool", "prometheus") {
        run(Command::new(promtool).args(["check", "config", "deploy/prometheus/prometheus.yaml"]));
    }
    let configuration = read(&root().join("deploy/prometheus/prometheus.yaml"));
    for path in files("alerts", ".rules.yaml") {
        for job in read(&path)
            .split("job=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .filter(|job| !job.contains('{'))
        {
            assert!(
                configuration.contains(&format!("job_name: {job}\n")),
                "{}: {job}",
                path.display()
            );
        }
    }
}
