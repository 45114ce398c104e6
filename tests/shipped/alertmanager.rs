//! Alertmanager's configuration and texts, by amtool.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_yaml::Value;

use super::{alerts, root, run, versions_of, yaml};

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
        "annotations": {"summary": "A summary.", "description": "A description.", "runbook_url": "/runbooks/HAProxyPortBlocked",
                        "dashboard_url": "/d/haproxy-host-host?var-instance=lb1"}})
    };
    let mut firing: Vec<_> = (0..12).map(|port| alert(&port.to_string(), "firing")).collect();
    firing.push(alert("443", "resolved"));
    let data = serde_json::json!({"status": "firing", "alerts": firing, "externalURL": "http://alertmanager.invalid",
        "groupLabels": {"haproxy": "lbagent", "cluster": "eu1"}, "commonLabels": {"alertname": "HAProxyPortBlocked"}});
    for amtool in versions_of("amtool", "alertmanager") {
        assert_eq!(
            render(&amtool, &data, "{{ template \"haproxy.subject\" . }}"),
            "[FIRING 12] HAProxyPortBlocked: lbagent in eu1"
        );
        let text = render(&amtool, &data, "{{ template \"haproxy.text\" . }}");
        for wanted in [
            "CRITICAL HAProxyPortBlocked, since 2026-11-22 03:04:05 UTC",
            "A description.",
            "Runbook: http://lb1:10101/runbooks/HAProxyPortBlocked",
            "Without a browser: haproxy-host-exporter explain HAProxyPortBlocked",
            "Dashboard: https://grafana.example.com/d/haproxy-host-host?var-instance=lb1",
            "… and more: 12 in all, http://alertmanager.invalid",
            "RESOLVED HAProxyPortBlocked on lb1, lbagent, port 443",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert_eq!(text.matches("CRITICAL").count(), 10, "{text}");
    }
}

/// The link to the runbook by the labels of an alert.
#[test]
fn runbooks_are_on_the_host_of_the_alert() {
    let table = [
        ("HAProxyDown", "lb1", "http://lb1:10101"),
        ("HAProxyDown", "lb1.example.com:20101", "http://lb1.example.com:20101"),
        ("HAProxyDown", "192.0.2.1", "http://192.0.2.1:10101"),
        ("HAProxyDown", "2001:db8::3", "http://[2001:db8::3]:10101"),
        ("HAProxyDown", "[2001:db8::3]:20101", "http://[2001:db8::3]:20101"),
        // No exporter that answers is known.
        ("HAProxyHostExporterAbsent", "", "http://HOST:10101"),
        ("HAProxyHostExporterDown", "lb1", "http://HOST:10101"),
    ];
    for amtool in versions_of("amtool", "alertmanager") {
        for (name, instance, base) in table {
            let labels = match instance {
                "" => serde_json::json!({"alertname": name}),
                _ => serde_json::json!({"alertname": name, "instance": instance}),
            };
            let annotations = serde_json::json!({"runbook_url": format!("/runbooks/{name}")});
            let data = serde_json::json!({"status": "firing", "alerts": [{"status": "firing", "labels": labels, "annotations": annotations}]});
            assert_eq!(
                render(&amtool, &data, "{{ template \"haproxy.runbook\" (index .Alerts 0) }}"),
                format!("{base}/runbooks/{name}"),
                "{name} {instance}"
            );
        }
    }
}

/// The text that the shipped templates make of a notification.
fn render(amtool: &Path, data: &serde_json::Value, template: &str) -> String {
    let notification = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(&notification, data.to_string()).expect("notification");
    let text = run(Command::new(amtool).args([
        "template",
        "render",
        "--template.glob=deploy/alertmanager/haproxy.tmpl",
        &format!("--template.data={}", notification.path().display()),
        &format!("--template.text={template}"),
    ]));
    text.trim().to_owned()
}
