//! The page of the alerting rules, made from `alerts/*.rules.yaml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use haproxy_host_exporter::policy::kind::Kind;
use serde_yaml::Value;

use super::{code, head, hold, table};

/// The alert's name, what it says in short, how long it waits, and the kind that it is about.
struct Alert {
    name: String,
    summary: String,
    wait: String,
    kind: &'static str,
}

/// The alerts by severity. One that has two severities is two rules.
fn alerts() -> BTreeMap<String, Vec<Alert>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".rules.yaml"))
        .collect();
    files.sort();
    let mut found: BTreeMap<String, Vec<Alert>> = BTreeMap::new();
    for file in files {
        let rules: Value = serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let groups = rules["groups"].as_sequence().unwrap();
        for rule in groups.iter().flat_map(|group| group["rules"].as_sequence().unwrap()) {
            let Some(name) = rule.get("alert").and_then(Value::as_str) else { continue };
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let kind = Kind::ALL.into_iter().find(|kind| kind.alert() == name);
            found.entry(text(&rule["labels"]["severity"])).or_default().push(Alert {
                name: name.to_owned(),
                summary: text(&rule["annotations"]["summary"]),
                wait: rule.get("for").map_or_else(|| "0s".to_owned(), text),
                kind: kind.map_or("", Kind::as_str),
            });
        }
    }
    found
}

#[test]
fn every_alert() {
    let mut page = head(
        "Alerts",
        "The alerting rules of [alerts/](../../alerts/README.md), each with its runbook. The time in \
         *waits* starts when the exporter reports the anomaly, that is, after its grace.",
    );
    let mut alerts = alerts();
    let about = [
        ("critical", "clients fail now: this pages a person"),
        ("warning", "clients will fail, or it cannot be seen whether they do: a ticket"),
        ("info", "to be read during working hours"),
    ];
    for (severity, about) in about {
        write!(page, "## {severity}: {about}\n\n").unwrap();
        let alerts = alerts.remove(severity).unwrap();
        page += &table(
            &["alert and runbook", "kind", "waits", "says"],
            alerts.into_iter().map(|alert| {
                let name = &alert.name;
                let runbook = format!("[{name}](../../alerts/runbooks/{name}.md)");
                vec![runbook, code(alert.kind), alert.wait, alert.summary]
            }),
        );
        page.push('\n');
    }
    assert!(alerts.is_empty(), "other severities: {:?}", alerts.keys());
    hold("alerts.md", &(page.trim_end().to_owned() + "\n"));
}
