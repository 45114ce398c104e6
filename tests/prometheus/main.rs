//! The shipped rules in real Prometheus.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod faster;
mod scrape;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_yaml::Value;

/// Durations of the shipped rules by rule and key, for a count that does not rest on the code under test.
fn durations(rules: &str) -> usize {
    let rules: Value = serde_yaml::from_str(rules).expect("YAML");
    rules["groups"]
        .as_sequence()
        .expect("groups")
        .iter()
        .flat_map(|group| group["rules"].as_sequence().expect("rules"))
        .map(|rule| {
            let waits = ["for", "keep_firing_for"].iter().filter(|key| rule.get(**key).is_some());
            waits.count() + rule["expr"].as_str().expect("expr").matches('[').count()
        })
        .sum()
}

#[test]
fn the_shipped_rules_run_faster_and_are_otherwise_the_same() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let copy = root.join("target/faster-rules");
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(root.join("alerts")).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().ends_with(".rules.yaml") {
            continue;
        }
        let rules = fs::read_to_string(&path).unwrap();
        let fast = faster::faster(&rules, 60);
        assert_eq!(fast.matches("000ms").count(), durations(&rules), "{}", path.display());
        let written = copy.join(path.file_name().unwrap());
        fs::write(&written, fast).unwrap();
        let checked = Command::new("promtool").args(["check", "rules"]).arg(&written).output();
        let checked = checked.expect("promtool (tests/install)");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
