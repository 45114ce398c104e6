//! Nothing is written twice: what the manifests contain of rules, dashboards and the policy is their one source.

use std::collections::BTreeMap;
use std::process::Command;

use serde_yaml::Value;

use super::{OVERLAYS, helm, kustomize, objects, of_kind, read, root, succeed, template, values};

/// Rules by their group, as the files of `alerts/` have them.
fn groups() -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(root().join("alerts")).unwrap().flatten().map(|file| file.path());
    let files = files.filter(|path| path.to_string_lossy().ends_with(".rules.yaml"));
    let texts = files.map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| named(&serde_yaml::from_str::<Value>(&text).unwrap())).collect()
}

fn named(rules: &Value) -> Vec<(String, Value)> {
    let groups = rules["groups"].as_sequence().unwrap().iter();
    groups.map(|group| (group["name"].as_str().unwrap().to_owned(), group.clone())).collect()
}

#[test]
fn the_base_is_what_the_chart_renders() {
    let Some(helm) = helm() else { return };
    let python = super::installed("python/bin/python3");
    let mut command = Command::new(python);
    command.env("HELM", helm).args(["deploy/kubernetes/generate", "--check"]);
    succeed(&mut command, "");
}

#[test]
fn rules_dashboards_and_policy_are_those_of_their_source() {
    let everything =
        values().into_iter().find(|file| file.ends_with("everything-values.yaml")).unwrap();
    let chart = helm().map(|helm| template(&helm, &everything, &[]).1);
    for (what, text, parts) in [
        ("the chart", chart, [true, true, true]),
        ("the overlay with everything", Some(kustomize(OVERLAYS[1])), [true, true, false]),
        ("the overlay for Cloudpods", Some(kustomize(OVERLAYS[3])), [false, false, true]),
    ] {
        let Some(text) = text else { continue };
        let all = objects(&text);
        let rules = of_kind(&all, "PrometheusRule");
        let rules = rules.iter().flat_map(|rule| named(&rule["spec"])).collect::<BTreeMap<_, _>>();
        assert_eq!(rules, if parts[0] { groups() } else { BTreeMap::new() }, "{what}");
        let mut data = BTreeMap::new();
        for map in of_kind(&all, "ConfigMap") {
            for (name, text) in map["data"].as_mapping().into_iter().flatten() {
                data.insert(name.as_str().unwrap(), text.as_str().unwrap().trim_end());
            }
        }
        for (part, name, source) in [
            (1, "fleet.json", "dashboards/fleet.json"),
            (1, "host.json", "dashboards/host.json"),
            (2, "lbagent.yaml", "deploy/policy/lbagent.yaml"),
        ] {
            let source = read(source);
            let expected = parts[part].then(|| source.trim_end());
            assert_eq!(data.get(name).copied(), expected, "{what}: {name}");
        }
    }
}

/// What the chart has of other files are links to them.
#[test]
fn the_files_of_the_chart_are_links() {
    let files = root().join(super::CHART).join("files");
    let mut links = 0;
    for folder in ["rules", "dashboards", "policy"] {
        for entry in std::fs::read_dir(files.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let target =
                path.canonicalize().unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            assert!(path.is_symlink() && !target.starts_with(&files), "{}", path.display());
            links += 1;
        }
    }
    let rules = std::fs::read_dir(root().join("alerts")).unwrap().flatten();
    let rules = rules.filter(|file| file.file_name().to_string_lossy().ends_with(".rules.yaml"));
    assert_eq!(links, rules.count() + 3, "a rule file without a link");
}

/// Dashboards and rules know a job; the PodMonitor gives it that name, whatever the release is called.
#[test]
fn the_monitor_names_job_and_instance() {
    let Some(helm) = helm() else { return };
    let file = root().join(super::CHART).join("ci/everything-values.yaml");
    let all = objects(&template(&helm, &file, &[]).1);
    let endpoint = &of_kind(&all, "PodMonitor")[0]["spec"]["podMetricsEndpoints"][0];
    let relabelings = endpoint["relabelings"].as_sequence().unwrap();
    let target = |label: &str| relabelings.iter().find(|one| one["targetLabel"] == label).unwrap();
    assert_eq!(target("job")["replacement"], "haproxy-host-exporter");
    assert_eq!(target("instance")["sourceLabels"][0], "__meta_kubernetes_pod_node_name");
    assert_eq!(target("cluster")["replacement"], "eu1");
}
