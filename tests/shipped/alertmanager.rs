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
