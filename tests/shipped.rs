//! What is shipped beside the binary (alerts, runbooks, Alertmanager, Prometheus), held together by
//! closure tests and driven through the tools of those who will use it: promtool, amtool, pint.
//!
//! More versions of promtool and amtool are used when they are under
//! `tests/.cache/{prometheus,alertmanager}/VERSION/`. pint is built once into `tests/.cache/go`
//! where there is a Go; where there is none it is skipped, and that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;

/// The version of pint whose findings are failures.
const PINT: &str = "v0.87.0";
/// Labels that Prometheus or the scrape configuration adds to every series.
const TARGET_LABELS: [&str; 3] = ["cluster", "job", "instance"];
/// Metrics the rules use that are not the exporter's.
const FOREIGN: [&str; 2] = ["up", "ALERTS"];
/// Kinds that have no alert, and why.
const KINDS_WITHOUT_ALERT: [(&str, &str); 0] = [];
/// What a runbook consists of.
const RUNBOOK_SECTIONS: [&str; 5] =
    ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## False alarms"];

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

/// The tool on PATH, and those of other versions in the cache.
fn versions_of(tool: &str, cache: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from(tool)];
    if let Ok(entries) = fs::read_dir(root().join("tests/.cache").join(cache)) {
        found.extend(
            entries.flatten().map(|entry| entry.path().join(tool)).filter(|path| path.exists()),
        );
    }
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

/// What the exporter exports: labels by metric, and the kinds.
struct Catalogue {
    metrics: BTreeMap<String, BTreeSet<String>>,
    kinds: BTreeSet<String>,
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue { metrics: BTreeMap::new(), kinds: BTreeSet::new() };
    for line in read(&root().join("tests/golden/catalogue.txt")).lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["metric", name, _, labels] => {
                let labels =
                    labels.split(',').filter(|label| *label != "-").map(str::to_owned).collect();
                catalogue.metrics.insert(name.to_owned(), labels);
            }
            ["kind", name] => {
                catalogue.kinds.insert(name.to_owned());
            }
            _ => assert!(line.starts_with('#'), "catalogue: {line}"),
        }
    }
    catalogue
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
    for promtool in versions_of("promtool", "prometheus") {
        run(Command::new(promtool)
            .args(["test", "rules"])
            .args(files("alerts/tests", ".test.yaml")));
    }
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
    let catalogue = catalogue();
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
            assert!(
                catalogue.metrics.contains_key(metric),
                "{}: no metric {metric}",
                path.display()
            );
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
    assert_eq!(judged, catalogue().kinds);
}

#[test]
fn rules_name_only_metrics_labels_and_kinds_that_exist() {
    let catalogue = catalogue();
    let all_labels: BTreeSet<&str> =
        catalogue.metrics.values().flatten().map(String::as_str).chain(TARGET_LABELS).collect();
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
            let labels = catalogue
                .metrics
                .get(metric)
                .unwrap_or_else(|| panic!("{name}: no metric {metric}"));
            for (label, values) in matchers(rest) {
                assert!(
                    labels.contains(&label) || TARGET_LABELS.contains(&label.as_str()),
                    "{name}: {metric} has no label {label}"
                );
                for value in values.iter().filter(|_| label == "kind") {
                    assert!(catalogue.kinds.contains(value), "{name}: no kind {value}");
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
        // Whatever is selected is ours or one of the two known others.
        for (at, _) in expr.match_indices(['{', '[']) {
            let before = &expr[..at];
            let metric = before
                .rsplit(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                .next()
                .unwrap_or_default();
            assert!(
                metric.is_empty()
                    || metric.starts_with("haproxy_host_")
                    || FOREIGN.contains(&metric),
                "{name}: {metric}"
            );
        }
    }
}

/// `HAProxyHostExporterDown` must fire, and Alertmanager hear of it, before an alert whose series
/// died with the exporter stops: else somebody is told that a blocked port is cured.
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

const ALERTMANAGER: &str = "deploy/alertmanager/alertmanager.yaml";

fn receivers(amtool: &Path, labels: &[String]) -> Vec<String> {
    let said = Command::new(amtool)
        .current_dir(root())
        .args(["config", "routes", "test", &format!("--config.file={ALERTMANAGER}")])
        .args(labels)
        .output()
        .expect("amtool");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).trim().split(',').map(str::to_owned).collect()
}

#[test]
fn alertmanager_takes_its_configuration_and_routes() {
    for amtool in versions_of("amtool", "alertmanager") {
        run(Command::new(&amtool).args(["check-config", ALERTMANAGER]));
        for case in
            yaml(&root().join("deploy/alertmanager/routes.test.yaml")).as_sequence().expect("cases")
        {
            let labels: Vec<String> = case["labels"]
                .as_mapping()
                .expect("labels")
                .iter()
                .map(|(name, value)| {
                    format!("{}={}", name.as_str().expect("name"), value.as_str().expect("value"))
                })
                .collect();
            let wanted: Vec<&str> = case["receivers"]
                .as_sequence()
                .expect("receivers")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            assert_eq!(receivers(&amtool, &labels), wanted, "{labels:?}");
        }
        for alert in alerts() {
            let wanted = match alert.severity.as_str() {
                "critical" => "webhook",
                "warning" => "mail",
                _ => "chat",
            };
            let labels =
                [format!("alertname={}", alert.name), format!("severity={}", alert.severity)];
            assert_eq!(receivers(&amtool, &labels), [wanted], "{labels:?}");
        }
    }
}

#[test]
fn inhibition_keeps_to_one_host() {
    let configuration = yaml(&root().join(ALERTMANAGER));
    let names: BTreeSet<String> = alerts().into_iter().map(|alert| alert.name).collect();
    for rule in configuration["inhibit_rules"].as_sequence().expect("inhibit_rules") {
        let equal: Vec<&str> =
            rule["equal"].as_sequence().expect("equal").iter().filter_map(Value::as_str).collect();
        assert!(equal.contains(&"cluster") && equal.contains(&"instance"), "{rule:?}");
        for matcher in ["source_matchers", "target_matchers"]
            .iter()
            .flat_map(|side| rule[*side].as_sequence().expect("matchers"))
        {
            let matcher = matcher.as_str().expect("a matcher");
            for name in matcher
                .split(['"', '|'])
                .filter(|word| word.starts_with("HAProxy") && !word.contains('+'))
            {
                assert!(names.contains(name), "no alert {name}");
            }
        }
    }
}

#[test]
fn notifications_are_enough_to_act_on() {
    let alert = |port: &str, status: &str| {
        serde_json::json!({
        "status": status, "startsAt": "2026-11-22T03:04:05Z",
        "labels": {"alertname": "HAProxyPortBlocked", "severity": "critical", "instance": "lb1", "haproxy": "lbagent", "port": port},
        "annotations": {"summary": "A summary.", "description": "A description.", "runbook_url": "https://runbook.invalid/HAProxyPortBlocked.md",
                        "dashboard_url": "/d/haproxy-host-host?var-instance=lb1"}})
    };
    let mut firing: Vec<_> = (0..12).map(|port| alert(&port.to_string(), "firing")).collect();
    firing.push(alert("443", "resolved"));
    let data = serde_json::json!({"status": "firing", "alerts": firing, "externalURL": "http://alertmanager.invalid",
        "groupLabels": {"haproxy": "lbagent", "cluster": "eu1"}, "commonLabels": {"alertname": "HAProxyPortBlocked"}});
    let path = root().join("target/notification.json");
    fs::create_dir_all(path.parent().expect("target")).expect("target");
    fs::write(&path, data.to_string()).expect("notification.json");
    for amtool in versions_of("amtool", "alertmanager") {
        let render = |template: &str| {
            run(Command::new(&amtool).args([
                "template",
                "render",
                "--template.glob=deploy/alertmanager/haproxy.tmpl",
                &format!("--template.data={}", path.display()),
                &format!("--template.text={{{{ template \"{template}\" . }}}}"),
            ]))
        };
        assert_eq!(
            render("haproxy.subject").trim(),
            "[FIRING 12] HAProxyPortBlocked: lbagent in eu1"
        );
        let text = render("haproxy.text");
        for wanted in [
            "CRITICAL HAProxyPortBlocked, since 2026-11-22 03:04:05 UTC",
            "A description.",
            "Runbook: https://runbook.invalid/HAProxyPortBlocked.md",
            "Dashboard: https://grafana.example.com/d/haproxy-host-host?var-instance=lb1",
            "… and more: 12 in all, http://alertmanager.invalid",
            "RESOLVED HAProxyPortBlocked on lb1, lbagent, port 443",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert_eq!(text.matches("CRITICAL").count(), 10, "{text}");
    }
}

/// Says it past the test harness, which keeps the output of a test that passes to itself.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "shipped: SKIPPED: {what}");
}

/// pint, built once from the module proxy. `go install` would also list all versions of the module, which
/// not every proxy answers; a module that requires the one version needs only that one.
fn pint() -> Option<PathBuf> {
    let go = root().join("tests/.cache/go");
    let built = go.join(format!("bin/pint-{PINT}"));
    if !built.exists() {
        if Command::new("go").arg("version").output().is_err() {
            return None;
        }
        let module = go.join("pint");
        fs::create_dir_all(&module).expect("tests/.cache/go");
        fs::write(
            module.join("go.mod"),
            format!("module tools\n\ngo 1.26\n\nrequire github.com/cloudflare/pint {PINT}\n"),
        )
        .expect("go.mod");
        let build = Command::new("go")
            .current_dir(&module)
            .env("GOPATH", &go)
            .env("GOFLAGS", "-mod=mod -modcacherw -buildvcs=false -p=1")
            .args(["build", "-o"])
            .arg(&built)
            .arg("github.com/cloudflare/pint/cmd/pint")
            .output()
            .expect("go");
        assert!(
            build.status.success(),
            "go build pint: {}",
            String::from_utf8_lossy(&build.stderr)
        );
    }
    Some(built)
}

#[test]
fn pint_finds_nothing() {
    let Some(pint) = pint() else {
        skipped("pint, because there is no Go on this machine");
        return;
    };
    let lint = |file: &Path| {
        let mut command = Command::new(&pint);
        command
            .current_dir(root())
            .args([
                "--no-color",
                "--offline",
                "--config",
                "alerts/pint.hcl",
                "lint",
                "--min-severity=info",
                "--fail-on=info",
            ])
            .arg(file);
        command
    };
    for file in files("alerts", ".rules.yaml") {
        run(&mut lint(&file));
    }
    // And it would: a rule without a severity is a finding.
    let bad = root().join("target/bad.rules.yaml");
    fs::create_dir_all(root().join("target")).expect("target");
    fs::write(&bad, "groups: [{name: bad, rules: [{alert: HAProxyBad, expr: haproxy_host_up}]}]\n")
        .expect("bad.rules.yaml");
    assert!(!lint(&bad).output().expect("pint").status.success(), "pint accepts anything");
}
