//! Every name that one of these uses exists in the others: alerts, tests, runbooks, kinds, metrics, links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use haproxy_host_exporter::metrics::catalogue;
use haproxy_host_exporter::policy::kind::Kind;
use serde_yaml::Value;

use super::{
    alerts, files, golden, matchers, metrics_in, read, root, rules, seconds, stem, text, yaml,
};

/// Labels that Prometheus or the scrape configuration adds to every series.
const TARGET_LABELS: [&str; 3] = ["cluster", "job", "instance"];
/// Metrics the rules use that are not the exporter's.
const FOREIGN: [&str; 2] = ["up", "ALERTS"];
/// Kinds that have no alert, and why.
const KINDS_WITHOUT_ALERT: [(&str, &str); 0] = [];
/// What a runbook consists of.
const RUNBOOK_SECTIONS: [&str; 5] =
    ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## False alarms"];

/// The rules may rely on exactly what the code exports, so that no rename goes unnoticed.
#[test]
fn the_golden_catalogue_is_the_code_s() {
    let golden = golden();
    let exported: BTreeMap<String, (String, Vec<String>)> = catalogue::ALL
        .iter()
        .filter(|row| row.name.starts_with("haproxy_host_"))
        .map(|row| {
            let labels = row.labels.iter().map(|label| (*label).to_owned()).collect();
            (row.name.to_owned(), (format!("{:?}", row.kind).to_lowercase(), labels))
        })
        .collect();
    assert_eq!(golden.metrics, exported);
    let judged: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(golden.kinds, judged);
}

/// The versions that the README promises are those of the table, and every scenario runs on each.
#[test]
fn the_readme_names_the_versions_of_the_tests() {
    let table = read(&root().join("tests/versions"));
    let mut versions: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("haproxy ")?.split_whitespace().next())
        .collect();
    versions.dedup();
    let (newest, others) = versions.split_last().expect("rows of HAProxy");
    let promise = format!("HAProxy {} and {newest}", others.join(", "));
    let readme = read(&root().join("README.md")).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(readme.contains(&promise), "README.md does not say {promise:?}");
    let scenarios = versions.iter().map(|version| {
        let name = version.replace('.', "_");
        format!("v{name} V{name}")
    });
    let scenarios = format!("[{}]", scenarios.collect::<Vec<_>>().join(", "));
    let support = read(&root().join("tests/support/mod.rs"));
    assert!(support.contains(&scenarios), "tests/support/mod.rs does not have {scenarios}");
}

#[test]
fn every_alert_is_tested_before_at_and_after() {
    // By alert and severity: is there a test that is silent at most 30 s before it fires with all
    // four annotations, and silent again later?
    let mut tested = BTreeSet::new();
    for test in files("alerts/tests", ".test.yaml")
        .iter()
        .flat_map(|path| yaml(path)["tests"].as_sequence().expect("tests").clone())
    {
        let mut seen: BTreeMap<String, Vec<(u64, Vec<Value>)>> = BTreeMap::new();
        for case in test.get("alert_rule_test").and_then(Value::as_sequence).into_iter().flatten() {
            let expected = case["exp_alerts"].as_sequence().cloned().unwrap_or_default();
            seen.entry(text(case, "alertname"))
                .or_default()
                .push((seconds(&text(case, "eval_time")), expected));
        }
        for (name, mut cases) in seen {
            cases.sort_by_key(|case| case.0);
            for severity in ["critical", "warning", "info"] {
                let fires: Vec<bool> = cases
                    .iter()
                    .map(|case| {
                        case.1.iter().any(|alert| {
                            text(&alert["exp_labels"], "severity") == severity
                                && alert["exp_annotations"]
                                    .as_mapping()
                                    .is_some_and(|found| found.len() == 4)
                        })
                    })
                    .collect();
                let Some(first) = fires.iter().position(|fires| *fires) else { continue };
                let silent_before = first > 0 && cases[first].0 - cases[first - 1].0 <= 30;
                if silent_before && fires.last() == Some(&false) {
                    tested.insert((name.clone(), severity));
                }
            }
        }
    }
    for alert in alerts() {
        assert!(
            tested.contains(&(alert.name.clone(), alert.severity.as_str())),
            "{} ({}) has no such test",
            alert.name,
            alert.severity
        );
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let named: BTreeSet<String> = alerts().into_iter().map(|alert| alert.name).collect();
    let runbooks = files("alerts/runbooks", ".md");
    let written: BTreeSet<String> =
        runbooks.iter().map(|path| stem(path, ".md").to_owned()).collect();
    assert_eq!(named, written, "alerts and runbooks differ");
    let golden = golden();
    for path in &runbooks {
        let content = read(path);
        assert!(
            content.starts_with(&format!("# {}\n", stem(path, ".md"))),
            "{}: title",
            path.display()
        );
        let mut from = 0;
        for section in RUNBOOK_SECTIONS {
            let at = content[from..].find(&format!("\n{section}\n"));
            from += at.unwrap_or_else(|| {
                panic!("{}: {section} is missing or out of order", path.display())
            });
        }
        for (metric, _) in metrics_in(&content) {
            assert!(golden.metrics.contains_key(metric), "{}: no metric {metric}", path.display());
        }
    }
}

#[test]
fn every_kind_has_an_alert_or_a_reason() {
    let mut judged: BTreeSet<String> =
        KINDS_WITHOUT_ALERT.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    for alert in alerts() {
        for (_, rest) in metrics_in(&alert.expr) {
            judged.extend(
                matchers(rest)
                    .into_iter()
                    .filter(|(label, values)| label == "kind" && values.len() == 1)
                    .flat_map(|(_, values)| values),
            );
        }
    }
    assert_eq!(judged, golden().kinds);
}

#[test]
fn rules_name_only_metrics_labels_and_kinds_that_exist() {
    let golden = golden();
    let all_labels: BTreeSet<&str> = golden
        .metrics
        .values()
        .flat_map(|(_, labels)| labels)
        .map(String::as_str)
        .chain(TARGET_LABELS)
        .collect();
    for rule in rules() {
        let name = text(&rule, "alert") + &text(&rule, "record");
        let expr = text(&rule, "expr");
        let annotations = rule
            .get("annotations")
            .and_then(Value::as_mapping)
            .into_iter()
            .flat_map(|map| map.values());
        let texts: Vec<String> = annotations.filter_map(Value::as_str).map(str::to_owned).collect();
        for (metric, rest) in texts.iter().chain([&expr]).flat_map(|text| metrics_in(text)) {
            let (_, labels) =
                golden.metrics.get(metric).unwrap_or_else(|| panic!("{name}: no metric {metric}"));
            for (label, values) in matchers(rest) {
                assert!(
                    labels.contains(&label) || TARGET_LABELS.contains(&label.as_str()),
                    "{name}: {metric} has no label {label}"
                );
                for value in values.iter().filter(|_| label == "kind") {
                    assert!(golden.kinds.contains(value), "{name}: no kind {value}");
                }
            }
        }
        for keyword in ["by", "without", "on", "ignoring", "group_left", "group_right"] {
            for list in
                expr.split(&format!("{keyword} (")).skip(1).filter_map(|rest| rest.split_once(')'))
            {
                for label in list.0.split(',').map(str::trim) {
                    assert!(all_labels.contains(label), "{name}: {keyword} {label}");
                }
            }
        }
        // Every selector is of our metrics or of one of the two others.
        for (at, _) in expr.match_indices(['{', '[']) {
            let before = &expr[..at];
            let metric = before
                .rsplit(|letter: char| {
                    !letter.is_ascii_alphanumeric() && !['_', ':'].contains(&letter)
                })
                .next()
                .unwrap_or_default();
            // A recorded one has ours between its level and its operations.
            assert!(
                metric.is_empty()
                    || metric.split(':').any(|part| part.starts_with("haproxy_host_"))
                    || FOREIGN.contains(&metric),
                "{name}: {metric}"
            );
        }
    }
}

/// `HAProxyHostExporterDown` must fire, and Alertmanager receive it, before an alert ends whose series died
/// with the exporter: otherwise a notification says that a blocked port is resolved.
#[test]
fn alerts_outlive_their_exporter() {
    let alerts = alerts();
    let down = alerts
        .iter()
        .find(|alert| alert.name == "HAProxyHostExporterDown")
        .expect("HAProxyHostExporterDown")
        .wait;
    for alert in &alerts {
        // Not the alerts on `up`, which does not die, nor those on a range, which ends by itself.
        let on_up = alert.expr.contains("up{job=") && !alert.expr.contains("haproxy_host_");
        if !on_up && !alert.expr.contains("haproxy_host_anomalies_observed_total") {
            assert!(alert.keep >= down + 60, "{}: keep_firing_for {} s", alert.name, alert.keep);
        }
    }
}

#[test]
fn links_lead_to_dashboards() {
    let uids: BTreeSet<String> =
        ["fleet", "host"].iter().map(|name| format!("haproxy-host-{name}")).collect();
    for alert in alerts() {
        let uid = alert
            .dashboard
            .strip_prefix("/d/")
            .and_then(|rest| rest.split('?').next())
            .unwrap_or_default();
        assert!(uids.contains(uid), "{}: {}", alert.name, alert.dashboard);
        assert!(alert.texts.iter().all(|text| !text.contains("example.")), "{}", alert.name);
    }
    for path in fs::read_dir(root().join("dashboards"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
    {
        if path.extension().is_some_and(|ending| ending == "json") {
            let dashboard: serde_json::Value = serde_json::from_str(&read(&path)).expect("JSON");
            assert!(uids.contains(dashboard["uid"].as_str().expect("a uid")), "{}", path.display());
        }
    }
}
