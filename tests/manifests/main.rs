//! The manifests of `deploy/`: rendered by helm and kubectl, validated against the schemas of Kubernetes and of Prometheus
//! Operator, and compared with the one source that each of them was made from.
//!
//! helm is built by Go, and Go has the operator's definitions. Where there is none, what needs them is skipped, and that is said.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod compose;
mod sources;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize as _;
use serde_yaml::Value;

const CHART: &str = "deploy/helm/haproxy-host-exporter";
/// What `kubectl kustomize` can build.
const OVERLAYS: [&str; 4] = [
    "deploy/kubernetes/base",
    "deploy/kubernetes/examples/monitored",
    "deploy/kubernetes/examples/sidecar",
    "deploy/cloudpods/kubernetes",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn installed(path: &str) -> PathBuf {
    let file = root().join("tests/.cache/containers").join(path);
    assert!(file.exists(), "{} is missing: run tests/install", file.display());
    file
}

/// helm; `None`, and a line that says so, where there is no Go to build it.
fn helm() -> Option<PathBuf> {
    has_go("helm").then(|| installed("helm/helm"))
}

fn has_go(what: &str) -> bool {
    let has_go = !root().join("tests/.cache/no-go").exists();
    if !has_go {
        eprintln!("SKIPPED: {what}, because there is no go on this machine");
    }
    has_go
}

fn kustomize(overlay: &str) -> String {
    succeed(Command::new(installed("python/bin/kubectl")).args(["kustomize", overlay]), "")
}

/// Validates manifests against the oldest and the newest schemas, and with Go those of Prometheus Operator against its own.
fn validator() -> Command {
    let mut command = Command::new(installed("python/bin/python3"));
    command.arg("tests/manifests/validate.py");
    command.args(has_go("resources of Prometheus Operator").then(|| installed("operator")));
    command
}

/// Whether a command succeeds, what it writes to standard output, and what to standard error.
fn run(command: &mut Command, input: &str) -> (bool, String, String) {
    let mut child = command
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn succeed(command: &mut Command, input: &str) -> String {
    let (success, output, said) = run(command, input);
    assert!(success, "{command:?}: {output}{said}");
    output
}

/// The objects of a text, in order.
fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents.map(|one| Value::deserialize(one).unwrap()).filter(|one| !one.is_null()).collect()
}

fn of_kind<'v>(objects: &'v [Value], kind: &str) -> Vec<&'v Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The chart, rendered with a file of values and further ones.
fn template(helm: &Path, values: &Path, more: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(helm);
    command.args(["template", "release", CHART, "--namespace", "watch", "--values"]).arg(values);
    run(command.args(more), "")
}

fn values() -> Vec<PathBuf> {
    let directory = root().join(CHART).join("ci");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.collect();
    assert!(files.len() >= 3);
    files
}

/// Validates objects against the oldest and the newest schemas.
#[track_caller]
fn validate(what: &str, manifests: &str) {
    let said = succeed(&mut validator(), manifests);
    assert_eq!(said.lines().count(), 2, "{what}: {said}");
    assert!(!said.contains(": 0 objects"), "{what}: {said}");
}

#[test]
fn the_chart_is_linted_and_its_renderings_are_valid() {
    let Some(helm) = helm() else { return };
    for file in values() {
        let lint = ["lint", "--strict", CHART, "--values"];
        succeed(Command::new(&helm).args(lint).arg(&file), "");
        let (success, rendered, said) = template(&helm, &file, &[]);
        assert!(success, "{}: {said}", file.display());
        validate(&file.display().to_string(), &rendered);
    }
}

#[test]
fn the_schema_refuses_what_would_do_nothing_or_harm() {
    let Some(helm) = helm() else { return };
    let none = root().join(CHART).join("ci/default-values.yaml");
    let table: [(&[&str], &str); 6] = [
        (&["--set", "hostPid=true"], "hostPid"),
        (&["--set", "image.pullPolicy=Sometimes"], "pullPolicy"),
        (&["--set", "image.digest=latest"], "digest"),
        (&["--set", "service.port=0"], "port"),
        (&["--set", "reap.enabled=true,hostPID=false"], "hostPID"),
        (&["--set", "reap.execute=perhaps"], "execute"),
    ];
    for (values, word) in table {
        let (success, rendered, said) = template(&helm, &none, values);
        assert!(!success, "{values:?}: {rendered}");
        assert!(said.contains(word), "{values:?}: {said}");
    }
}

#[test]
fn the_overlays_are_valid() {
    for overlay in OVERLAYS {
        validate(overlay, &kustomize(overlay));
    }
}

/// A schema that accepts everything would make the other tests worthless.
#[test]
fn a_wrong_manifest_is_refused() {
    let table = [
        (
            "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}, spec: {selectr: {}}}",
            "DaemonSet a",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {ports: [{port: x}]}}",
            "Service b",
        ),
        (
            "{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: c}, spec: {groups: [{rules: []}]}}",
            "PrometheusRule c",
        ),
        (
            "{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {name: d}, spec: {selector: {}, podMetricsEndpoint: []}}",
            "PodMonitor d",
        ),
    ];
    for (manifest, name) in table {
        if manifest.contains("monitoring.coreos.com") && !has_go(name) {
            continue;
        }
        let (success, _, said) = run(&mut validator(), manifest);
        assert!(!success && said.contains(name), "{manifest}: {said}");
    }
}

/// Which container may do what, in every rendering: nothing is privileged, the root is read-only, and only
/// the reaper may signal.
#[test]
fn every_container_has_the_least_rights() {
    let mut texts: Vec<String> = OVERLAYS.iter().map(|overlay| kustomize(overlay)).collect();
    if let Some(helm) = helm() {
        texts.extend(values().iter().map(|file| template(&helm, file, &[]).1));
    }
    let mut reapers = 0;
    for text in &texts {
        let all = objects(text);
        for kind in ["DaemonSet", "Deployment"] {
            for workload in of_kind(&all, kind) {
                let pod = &workload["spec"]["template"]["spec"];
                assert_eq!(pod["automountServiceAccountToken"], false);
                for container in pod["containers"].as_sequence().unwrap() {
                    reapers += usize::from(check_container(pod, container));
                }
            }
        }
    }
    assert!(reapers >= 3, "{reapers} reapers");
}

/// Whether it is a reaper.
fn check_container(pod: &Value, container: &Value) -> bool {
    let name = container["name"].as_str().unwrap();
    if name == "haproxy" {
        return false;
    }
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
    assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
    assert!(context.get("privileged").is_none(), "{name}");
    assert_eq!(context["capabilities"]["drop"][0], "ALL", "{name}");
    let seccomp =
        [context, &pod["securityContext"]].map(|one| one["seccompProfile"]["type"].clone());
    assert!(seccomp.contains(&Value::from("RuntimeDefault")), "{name}: {seccomp:?}");
    let rights: Vec<&str> = context["capabilities"]["add"]
        .as_sequence()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let may = |right: &str| rights.contains(&right);
    assert!(may("SYS_PTRACE") && may("DAC_READ_SEARCH"), "{name}: {rights:?}");
    let known = ["SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN", "KILL"];
    assert!(rights.iter().all(|right| known.contains(right)), "{name}: {rights:?}");
    let reaps = name.contains("reap");
    assert_eq!(may("KILL"), reaps, "{name}: {rights:?}");
    assert_eq!(container.get("livenessProbe").is_some(), !reaps, "{name}");
    reaps
}
