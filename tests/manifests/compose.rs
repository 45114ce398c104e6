//! The compose file: its form, and that what it mounts exists. `tests/containers` starts it.

use std::process::Command;

use serde_yaml::Value;

use super::{has_go, installed, read, root, run, succeed};

const VALIDATE: &str = "import json,sys,yaml,jsonschema; \
    jsonschema.validate(yaml.safe_load(sys.stdin), json.load(open(sys.argv[1])))";

#[test]
fn the_compose_file_follows_the_specification() {
    if !has_go("the schema of compose files") {
        return;
    }
    let validator = || {
        let mut command = Command::new(installed("python/bin/python3"));
        command.args(["-c", VALIDATE]).arg(installed("compose/compose-spec.json"));
        command
    };
    let text = read("deploy/container/compose.yaml");
    succeed(&mut validator(), &text);
    let (success, _, said) = run(&mut validator(), &text.replace("cap_drop:", "cap_dropp:"));
    assert!(!success && said.contains("cap_dropp"), "{said}");
}

#[test]
fn the_compose_file_mounts_what_exists() {
    let compose: Value = serde_yaml::from_str(&read("deploy/container/compose.yaml")).unwrap();
    let services = compose["services"].as_mapping().unwrap();
    let names: Vec<&str> = services.keys().filter_map(Value::as_str).collect();
    assert_eq!(names, ["haproxy", "exporter", "prometheus", "alertmanager", "grafana"]);
    let here = root().join("deploy/container");
    let volumes = compose["volumes"].as_mapping().unwrap();
    for (name, service) in services {
        assert!(service["image"].as_str().unwrap().contains(':'), "{name:?} has no version");
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let volume = volume.as_str().unwrap();
            let source = volume.split(':').next().unwrap();
            let exists = match source.strip_prefix('.') {
                Some(_) => here.join(source).exists(),
                None => source == "/sys" || volumes.contains_key(source),
            };
            assert!(exists, "{name:?} mounts {source}");
        }
    }
    let exporter = &compose["services"]["exporter"];
    assert!(here.join(exporter["build"]["context"].as_str().unwrap()).join("Cargo.toml").exists());
    let address = "127.0.0.1:10101";
    assert!(exporter["command"][1].as_str().unwrap().ends_with(address));
    assert_eq!(exporter["environment"]["HAPROXY_HOST_EXPORTER_WEB_LISTEN_ADDRESS"], address);
}
