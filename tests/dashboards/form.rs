//! The form of the boards: panels fill the board, every name in them is known, every link leads somewhere,
//! Grafana's types and its linter accept them. Needs no exporter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::Command;

use haproxy_host_exporter::metrics::catalogue;
use haproxy_host_exporter::policy::kind::{Kind, Severity};
use serde_json::Value;

use super::board::{BOARDS, Board, links, mapping, read, root, targets, title};
use crate::support::{installed, text};

/// Labels that Prometheus or the scrape configuration adds to every series.
const TARGET_LABELS: [&str; 3] = ["cluster", "job", "instance"];
/// Where the boards lead to runbooks: on an exporter that answers, under the path that the alerts name too.
const RUNBOOKS: &str = "${runbooks:raw}/runbooks/";

/// What the recording rules keep for the fleet board: the worst of each host, and what is there of what is
/// not there on most.
const STATE: &str = "instance_haproxy:haproxy_host_state:max";
const PRESENT: &str = "instance_haproxy_kind:haproxy_host_anomalies:sum";
const STALE: &str = "instance_haproxy_state:haproxy_host_stale_processes:sum";
const UNREADABLE: &str = "instance_what:haproxy_host_unreadable:sum";
/// Of every host that answers: without it a list that is empty would say no more than that nothing is recorded.
const SEEN: &str = "instance:haproxy_host_haproxys:sum";

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'
}

fn boards() -> impl Iterator<Item = Board> {
    BOARDS.into_iter().map(Board::read)
}

#[test]
fn panels_fill_the_board_without_overlap() {
    for board in boards() {
        let mut ids = BTreeSet::new();
        let mut cells = BTreeMap::new();
        let mut height = 0;
        for panel in board.panels() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}: id twice", title(panel));
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(x + w <= 24, "{}: beyond the right edge", title(panel));
            height = height.max(y + h);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                let other = cells.insert(cell, title(panel));
                assert!(other.is_none(), "{} lies on {other:?}", title(panel));
            }
        }
        assert_eq!(cells.len() as u64, 24 * height, "{}: holes", board.uid());
    }
}

/// What every panel has to have, beyond what the linter asks of some.
#[test]
fn every_panel_explains_itself() {
    for board in boards() {
        assert_eq!(
            (board.json["schemaVersion"].as_u64(), &board.json["id"]),
            (Some(41), &Value::Null)
        );
        assert!(board.json["__inputs"].is_null() && board.json["editable"] == false);
        for panel in board.panels() {
            let name = title(panel);
            // A title has about 9 pixels a letter, a column at least 60 on a screen of 1600.
            let room = panel["gridPos"]["w"].as_u64().unwrap() * 60 / 9;
            assert!(
                !name.is_empty() && name.len() as u64 <= room,
                "{name}: the title has room for {room}"
            );
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 30 && text.ends_with(['.', '?'])),
                "{name}"
            );
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(defaults["unit"].is_string(), "{name}: no unit");
            assert!(
                defaults["noValue"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty() && text != "No data"),
                "{name}"
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}");
            assert!(!targets(panel).is_empty(), "{name}");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}");
            }
            if panel["type"] == "stat" {
                assert!(!links(panel).is_empty(), "{name}: leads nowhere");
                assert!(!defaults["thresholds"]["steps"].as_array().unwrap().is_empty(), "{name}");
            }
        }
        for (place, expr) in
            board.expressions().iter().filter(|(place, _)| !place.starts_with("variable"))
        {
            for selector in expr.split('{').skip(1) {
                let selector = selector.split('}').next().unwrap();
                for label in TARGET_LABELS {
                    assert!(
                        selector.contains(&format!("{label}=~\"${label}\"")),
                        "{place}: {label} in {selector}"
                    );
                }
            }
        }
    }
}

#[test]
fn only_metrics_labels_and_kinds_that_exist() {
    let mut metrics: BTreeMap<&str, BTreeSet<&str>> =
        catalogue::ALL.iter().map(|row| (row.name, row.labels.iter().copied().collect())).collect();
    metrics.insert("up", BTreeSet::new());
    metrics.insert("ALERTS", ["alertname", "alertstate", "haproxy"].into());
    metrics.insert(STATE, ["haproxy"].into());
    metrics.insert(PRESENT, ["haproxy", "kind"].into());
    metrics.insert(STALE, ["haproxy", "state"].into());
    metrics.insert(UNREADABLE, ["what"].into());
    metrics.insert(SEEN, [].into());
    let kinds = kinds();
    for board in boards() {
        for (place, expr) in board.expressions() {
            let mut rest = expr.as_str();
            while let Some(open) = rest.find('{') {
                let (before, after) = rest.split_at(open);
                let name = before.rsplit(|c: char| !is_of_a_name(c)).next().unwrap();
                let labels =
                    metrics.get(name).unwrap_or_else(|| panic!("{place}: no metric {name}"));
                let (selector, tail) = after[1..].split_once('}').unwrap();
                for matcher in selector.split("\",") {
                    let (label, value) = matcher.split_once(['=', '!']).unwrap();
                    assert!(
                        labels.contains(label) || TARGET_LABELS.contains(&label),
                        "{place}: {name} has no {label}"
                    );
                    if label == "kind" && !value.contains('$') {
                        for kind in
                            value.trim_start_matches(['=', '~']).trim_matches('"').split('|')
                        {
                            assert!(kinds.contains_key(kind), "{place}: no kind {kind}");
                        }
                    }
                }
                rest = tail;
            }
            // A metric without a selector would see every job of the Prometheus.
            for (at, _) in expr.match_indices("haproxy_host_") {
                let end =
                    expr[at..].find(|c: char| !is_of_a_name(c)).map_or("", |end| &expr[at + end..]);
                assert!(
                    end.starts_with('{') || place.starts_with("variable"),
                    "{place}: a selector is missing in {expr}"
                );
            }
        }
    }
}

/// Kinds with their severity.
fn kinds() -> BTreeMap<&'static str, Severity> {
    Kind::ALL.map(|kind| (kind.as_str(), kind.severity())).into()
}

#[test]
fn every_kind_has_words_a_color_a_step_and_a_runbook() {
    let kinds = kinds();
    let names: Vec<&str> = kinds.keys().copied().collect();
    let [fleet, host] = BOARDS.map(Board::read);
    let mut runbooks = BTreeSet::new();
    for column in ["What is wrong", "First step", "Runbook"] {
        let (on_fleet, on_host) = (
            mapping(fleet.panel("What is wrong now"), column),
            mapping(host.panel("What is wrong now"), column),
        );
        assert_eq!(on_fleet, on_host, "{column}: the boards differ");
        assert_eq!(on_fleet.keys().copied().collect::<Vec<_>>(), names, "{column}");
        for (kind, (words, color)) in on_fleet {
            match column {
                "What is wrong" => assert_eq!(color, Some(paint(kinds[kind])), "{kind}"),
                "Runbook" => assert!(runbooks.insert(words.to_owned()), "{kind}: {words} twice"),
                _ => assert!(words.len() < 60, "{kind}: {words}"),
            }
        }
    }
    // The queries sort the kinds as the exporter does, and so do the rules that record the worst of each host.
    let of = |board: &Board| targets(board.panel("What is wrong now"))[0].expr.clone();
    let recorded = read(&root().join("alerts/recording.rules.yaml"));
    for (expr, critical, info) in [
        (of(&fleet), "1 critical", "3 info"),
        (of(&host), "1 critical", "3 info"),
        (recorded, "* 0 + 5", "* 0 + 1"),
    ] {
        for (severity, after) in [(Severity::Critical, critical), (Severity::Info, info)] {
            let part = expr.split(after).next().unwrap();
            let list = part
                .rsplit("kind=~\"")
                .find(|list| !list.starts_with('$'))
                .unwrap()
                .split('"')
                .next()
                .unwrap();
            let listed: BTreeSet<&str> = list.split('|').collect();
            let wanted: BTreeSet<&str> =
                kinds.iter().filter(|(_, is)| **is == severity).map(|(kind, _)| *kind).collect();
            assert_eq!(listed, wanted, "{after}");
        }
    }
    for name in runbooks {
        runbook_exists(&name);
    }
}

fn paint(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "red",
        Severity::Warning => "orange",
        Severity::Info => "blue",
    }
}

fn runbook_exists(name: &str) {
    let path = root().join("alerts/runbooks").join(format!("{name}.md"));
    assert!(path.exists(), "no runbook {name}");
}

#[test]
fn links_lead_somewhere() {
    let all: BTreeMap<String, Board> =
        boards().map(|board| (board.uid().to_owned(), board)).collect();
    assert_eq!(
        all.keys().map(String::as_str).collect::<Vec<_>>(),
        ["haproxy-host-fleet", "haproxy-host-host"]
    );
    for board in all.values() {
        let own = board.json["links"]
            .as_array()
            .unwrap()
            .iter()
            .map(|link| link["url"].as_str().unwrap().to_owned());
        for url in own.chain(board.panels().into_iter().flat_map(links)) {
            if let Some(name) = url.strip_prefix(RUNBOOKS) {
                // Without a name it leads to the list of them.
                if !["", "${__value.text}"].contains(&name) {
                    runbook_exists(name);
                }
                continue;
            }
            let rest = url.strip_prefix("/d/").unwrap_or_else(|| panic!("{url} leads elsewhere"));
            let (uid, query) = rest.split_once('?').unwrap();
            let target = all.get(uid).unwrap_or_else(|| panic!("{url}: no such board"));
            let names: BTreeSet<&str> = target
                .variables()
                .iter()
                .map(|variable| variable["name"].as_str().unwrap())
                .collect();
            for part in query.split('&') {
                if let Some((name, value)) = part.split_once('=') {
                    if name == "viewPanel" {
                        assert!(
                            target
                                .panels()
                                .iter()
                                .any(|panel| panel["id"].as_u64() == value.parse().ok()),
                            "{url}"
                        );
                    } else {
                        assert!(
                            names.contains(name.strip_prefix("var-").unwrap()),
                            "{url}: {name}"
                        );
                    }
                } else {
                    let name = part
                        .trim_start_matches("${")
                        .trim_end_matches(":queryparam}")
                        .trim_end_matches('}');
                    assert!(name == "__url_time_range" || names.contains(name), "{url}: {part}");
                }
            }
        }
    }
}

/// The test above shows that every link leads to a part of a board; this one, that the provisioning fits
/// the boards.
#[test]
fn provisioning_names_the_boards() {
    let yaml = |name: &str| -> serde_yaml::Value {
        serde_yaml::from_str(&read(&root().join("deploy/grafana/provisioning").join(name))).unwrap()
    };
    let source = &yaml("datasources/haproxy-host.yaml")["datasources"][0];
    assert_eq!(
        (source["type"].as_str(), source["access"].as_str()),
        (Some("prometheus"), Some("proxy"))
    );
    assert_eq!(
        source["jsonData"]["timeInterval"].as_str(),
        Some("15s"),
        "the scrape interval of deploy/prometheus"
    );
    let provider = &yaml("dashboards/haproxy-host.yaml")["providers"][0];
    assert_eq!(provider["type"].as_str(), Some("file"));
    assert!(provider["options"]["path"].as_str().unwrap().ends_with("/haproxy-host"));
}

/// At a thousand hosts a table of all of them cannot be read, and a query of all their anomalies takes
/// seconds: these panels ask for what is recorded, which is only what is wrong.
#[test]
fn lists_of_the_fleet_show_only_what_is_wrong() {
    let fleet = Board::read("fleet");
    for (panel, rows) in [
        ("What is wrong now", "haproxy_host_anomaly_start_timestamp_seconds{"),
        ("HAProxys with something wrong", STATE),
        ("Hosts with something wrong", STATE),
        ("Anomalies by kind", PRESENT),
        ("Stale processes by state", STALE),
        ("Configuration differs", "!= on (cluster, haproxy) group_left ()"),
    ] {
        for target in targets(fleet.panel(panel)) {
            assert!(
                target.expr.contains(rows),
                "{panel} {} shows more than is wrong",
                target.reference
            );
        }
    }
    // A HAProxy with 300 ports that are held is one row here, and 300 on its host's board.
    let wrong = fleet.panel("What is wrong now");
    for target in targets(wrong) {
        assert!(target.expr.contains("by (cluster, instance, haproxy, kind, holder)"));
    }
    let sorted = &wrong["options"]["sortBy"];
    let key = |at: usize| (sorted[at]["displayName"].as_str(), sorted[at]["desc"].as_bool());
    assert_eq!([key(0), key(1)], [(Some("Severity"), Some(false)), (Some("Ports"), Some(true))]);
    // A panel that lists hosts or HAProxys is one of these.
    for panel in fleet.panels() {
        let lists = ["table", "state-timeline"].contains(&panel["type"].as_str().unwrap());
        let many =
            targets(panel).iter().any(|target| target.expr.contains("by (cluster, instance"));
        assert!(lists || !many, "{}: a line for each host", title(panel));
    }
    // Worst first: the ranks of hosts are separate queries, because a timeline keeps the order of its queries.
    let ranks: Vec<String> = targets(fleet.panel("Hosts with something wrong"))
        .iter()
        .map(|target| target.expr.rsplit("@ end())) ").next().unwrap().to_owned())
        .collect();
    assert_eq!(ranks, [">= 5", ">= 3 <= 4", ">= 1 <= 2"]);
    let sorted = &fleet.panel("HAProxys with something wrong")["options"]["sortBy"];
    assert_eq!((&sorted[0]["displayName"], &sorted[0]["desc"]), (&"Critical".into(), &true.into()));
}

#[test]
fn grafanas_own_types_accept_the_boards() {
    let cache = root().join("tests/.cache/dashboards");
    let script = root().join("tests/dashboards/types.mjs");
    let check = |name: &str, boards: &[std::path::PathBuf]| {
        // Beside node_modules, where the compiler looks for them.
        let source = cache.join(format!("{name}.ts"));
        let wrote = Command::new(installed("dashboards/node/bin/node"))
            .arg(&script)
            .arg(&source)
            .args(boards)
            .output()
            .unwrap();
        assert!(wrote.status.success(), "{}", text(&wrote.stderr));
        Command::new(installed("dashboards/node/bin/node"))
            .arg(installed("dashboards/node_modules/typescript/bin/tsc"))
            .args([
                "--noEmit",
                "--strict",
                "--skipLibCheck",
                "--target",
                "es2022",
                "--module",
                "esnext",
            ])
            .args(["--moduleResolution", "bundler"])
            .arg(source)
            .output()
            .unwrap()
    };
    let shipped = BOARDS.map(|name| root().join("dashboards").join(format!("{name}.json")));
    let good = check("boards", &shipped);
    assert!(good.status.success(), "{}", text(&good.stdout));

    // And it would find what is wrong: an option no plugin knows, a value no option has.
    let bad = read(&shipped[0])
        .replacen("\"graphMode\": \"none\"", "\"graphMood\": \"none\"", 1)
        .replacen("\"displayMode\": \"list\"", "\"displayMode\": \"lists\"", 1);
    let path = cache.join("bad.json");
    fs::write(&path, bad).unwrap();
    let said = text(&check("bad", &[path]).stdout);
    assert!(said.contains("graphMood") && said.contains("\"lists\""), "{said}");
}

#[test]
fn grafanas_linter_finds_nothing() {
    if root().join("tests/.cache/no-go").exists() {
        let _ = writeln!(
            std::io::stderr(),
            "dashboards: SKIPPED: dashboard-linter, because there is no go 1.26 on this machine"
        );
        return;
    }
    let lint = |path: &std::path::Path| {
        Command::new(installed("dashboards/dashboard-linter"))
            .args(["lint", "--strict", "--verbose", "--config"])
            .arg(root().join("tests/dashboards/lint.yaml"))
            .arg(path)
            .output()
            .unwrap()
    };
    for name in BOARDS {
        let output = lint(&root().join("dashboards").join(format!("{name}.json")));
        assert!(
            output.status.success(),
            "{name}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
    let bad =
        read(&root().join("dashboards/fleet.json")).replace("\"refresh\": 2", "\"refresh\": 1");
    let path = root().join("tests/.cache/dashboards/bad-lint.json");
    fs::write(&path, bad).unwrap();
    assert!(!lint(&path).status.success(), "the linter accepts anything");
}
