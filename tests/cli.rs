//! The command line as a person or a unit file meets it: what is wrong is said once, clearly, before
//! anything is bound.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::net::TcpListener;
use std::process::Output;

use support::*;

/// Wrong usage or an unusable configuration: exit 2 and one error that has all of `words`.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(text(&output.stdout), "", "errors go to standard error");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in:\n{error}");
    }
    assert!(!error.contains("panicked"), "{error}");
    // One error: it begins the first line, and no other.
    let begins =
        |line: &str| ["haproxy-host-exporter: ", "error: "].iter().any(|b| line.starts_with(b));
    assert!(error.lines().next().is_some_and(begins), "{error}");
    assert_eq!(
        error.matches("haproxy-host-exporter: ").count() + error.matches("error: ").count(),
        1,
        "{error}"
    );
}

/// Runs it with these flags.
fn run(bed: &Bed, arguments: &[&str]) -> Output {
    // Limited in time, because a program that should end at once might serve for ever.
    bed.command("timeout")
        .args(["--kill-after=1", "10"])
        .arg(Exporter::binary())
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn bad_configurations() {
    let table: &[(&str, &[&str])] = &[
        ("defaults: {allowed_ports: [\n", &["line 2"]),
        (
            "defaults:\n  stale_grace: 1s\n  stale_grase: 2s\n",
            &["stale_grase", "line 3", "column 3"],
        ),
        ("defaults: {stale_grace: soon}\n", &["stale_grace", "soon"]),
        ("defaults: {allowed_ports: [\"80-\"]}\n", &["allowed_ports", "80-"]),
        ("defaults: {allowed_ports: [\"70000\"]}\n", &["allowed_ports", "70000"]),
        ("defaults: {allowed_ports: [\"90-80\"]}\n", &["allowed_ports", "90-80"]),
        ("defaults: {ignore: [{kind: port_imaginary}]}\n", &["port_imaginary"]),
        ("haproxys: [{name: a, match: {command: \"(\"}}]\n", &["command"]),
        ("haproxys: [{match: {pidfile: /run/a.pid}}]\n", &["name"]),
        (
            "haproxys: [{name: a, match: {pidfile: /a}}, {name: a, match: {pidfile: /b}}]\n",
            &["duplicate name \"a\""],
        ),
        (
            "defaults:\n  ignore: [{until: next week}]\n",
            &["until", "next week", "2027-03-01", "line 2", "column 20"],
        ),
        (
            "defaults:\n  reserved_ports: [{name: a, ports: [\"::1:80\"]}]\n",
            &["reserved_ports", "no address", "line 2", "column 38"],
        ),
        ("metrics: {max_port_series: many}\n", &["max_port_series"]),
    ];
    let bed = Bed::new();
    for (yaml, words) in table {
        let path = bed.write("bad.yaml", yaml).display().to_string();
        for extra in [&["--config.check"][..], &[][..]] {
            let output = run(&bed, &[&["--config.file", &path], extra].concat());
            assert_refused(&output, &[words, &["bad.yaml"][..]].concat());
        }
    }
}

#[test]
fn bad_flags() {
    let bed = Bed::new();
    let table: &[(&[&str], &[&str])] = &[
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["--web.listen-adress", ":1"], &["--web.listen-address"]),
        (&["check", "--sample.interval", "1s"], &["--sample.interval is a flag of serve"]),
        (&["--web.listen-address", "nonsense"], &["nonsense"]),
        (&["--web.listen-address", "127.0.0.1:99999"], &["99999"]),
        (&["--sample.interval", "often"], &["often"]),
        (&["--sample.interval", "0s"], &["0s"]),
        (&["--config.file", "/nonexistent.yaml"], &["/nonexistent.yaml"]),
        (&["--path.procfs", "/tmp"], &["/tmp", "procfs"]),
        (&["--path.procfs", "/nonexistent"], &["/nonexistent"]),
        (&["inspect", "--path.procfs", "/tmp"], &["/tmp", "procfs"]),
        (&["inspect", "--haproxy", "nobody"], &["nobody"]),
        (&["--web.telemetry-path", "metrics"], &["metrics"]),
        (&["--log.level", "loud"], &["loud"]),
        (&["check", "--port", "0"], &["--port", "from 1 to 65535"]),
        (&["check", "--port", "80-70"], &["--port", "write 70-80"]),
        (&["check", "--port", "icmp/80"], &["--port", "icmp/80"]),
        (&["check", "--port", "10.0.0.0/8:80"], &["--port", "one address"]),
        (&["check", "--port", "80", "-f", "/etc/hosts"], &["--port", "-f"]),
        (&["check", "--port", "80", "--offline"], &["--port", "--offline"]),
        (&["check", "--port", "80", "--free", "1"], &["--port", "--free"]),
        (&["check", "--free", "0"], &["--free"]),
        (&["check", "--free", "1", "-f", "/etc/hosts"], &["--free", "-f"]),
        (&["check", "--within", "80-90"], &["--free"]),
        (&["check", "--free", "1", "--within", "90-80"], &["--within", "write 80-90"]),
        (&["check", "--timeout", "soon"], &["--timeout", "soon"]),
        (&["check", "--timeout", "0s"], &["--timeout", "more than 0"]),
    ];
    for (arguments, words) in table {
        assert_refused(&run(&bed, arguments), words);
    }
}

#[test]
fn port_in_use() {
    let bed = Bed::new();
    let _taken = bed.inside(|| TcpListener::bind("127.0.0.1:10101")).unwrap();
    assert_refused(
        &run(&bed, &["--web.listen-address", "127.0.0.1:10101"]),
        &["127.0.0.1:10101", "in use"],
    );
    // One of two in use is one too many: nothing is served on the other.
    let both =
        ["--web.listen-address", "127.0.0.1:10102", "--web.listen-address", "127.0.0.1:10101"];
    assert_refused(&run(&bed, &both), &["127.0.0.1:10101"]);
}

#[test]
fn configuration_check() {
    let bed = Bed::new();
    let yaml = "defaults:
  allowed_ports: [\"80\", \"tcp/10000-29999\", \"udp/443\", \"127.0.0.1:8404\", \"[::1]:8405\", \"10.0.0.0/8:53\"]
  stale_grace: 10s
  reload_grace: 1h
  forget_after: 15m
  thresholds: {bound_ports: 5000, stale_processes: 10, generations: 5, stale_age: 24h}
haproxys:
  - name: lbagent
    match: {pidfile: /opt/cloud/workspace/lbagent/run/haproxy.pid}
    allowed_ports: [\"20000-29999\"]
    ignore: [{kind: port_ephemeral, port: 50000, reason: agreed, until: 2027-03-01T12:00:00Z}]
    reserved_ports: [{name: Kubernetes NodePort, ports: [\"30000-32767\"]}]
metrics: {max_port_series: 500}
";
    let path = bed.write("good.yaml", yaml).display().to_string();
    let output = run(&bed, &["--config.file", &path, "--config.check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn configuration_directory() {
    let bed = Bed::new();
    let directory = bed.directory().join("conf.d");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.display().to_string();
    let check = ["--config.file", &path, "--config.check"];
    let empty = run(&bed, &check);
    assert_eq!(empty.status.code(), Some(0), "{empty:?}");
    assert!(text(&empty.stdout).contains("conf.d: ok, it has no *.yaml file"), "{empty:?}");

    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("a.yaml", "defaults: {stale_grace: 1s}\n");
    write("b.yaml", "haproxys:\n- {name: b, match: {pidfile: /b}}\n");
    write("b.yaml~", "nonsense: [\n");
    let both = run(&bed, &check);
    assert_eq!(both.status.code(), Some(0), "{both:?}");
    assert_eq!(text(&both.stdout), format!("{path}/a.yaml: ok\n{path}/b.yaml: ok\n"));

    write("c.yaml", "# again\ndefaults: {}\n");
    assert_refused(
        &run(&bed, &check),
        &["c.yaml: duplicate key defaults at line 2 column 1", "a.yaml has it at line 1 column 1"],
    );
    write("c.yaml", "metrics:\n  max_serie: 1\n");
    assert_refused(&run(&bed, &check), &["c.yaml", "max_serie", "line 2 column 3"]);
}

/// Flags from the environment, and the flag that wins over it.
#[test]
fn environment() {
    let bed = Bed::new();
    let run = |arguments: &[&str]| {
        bed.command("timeout")
            .args(["--kill-after=1", "10"])
            .arg(Exporter::binary())
            .args(arguments)
            .env("HAPROXY_HOST_EXPORTER_CONFIG_FILE", "/nonexistent-by-environment.yaml")
            .output()
            .unwrap()
    };
    assert_refused(&run(&["--config.check"]), &["/nonexistent-by-environment.yaml"]);
    assert_refused(
        &run(&["--config.check", "--config.file", "/nonexistent-by-flag.yaml"]),
        &["/nonexistent-by-flag.yaml"],
    );
}

/// A variable of `serve` does not concern the other commands.
#[test]
fn environment_of_another_command() {
    let bed = Bed::new();
    let run = |arguments: &[&str]| {
        bed.command(Exporter::binary())
            .args(arguments)
            .env("HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL", "often")
            .output()
            .unwrap()
    };
    assert_eq!(run(&["explain", "port_blocked"]).status.code(), Some(0));
    assert_eq!(run(&["inspect"]).status.code(), Some(0));
    assert_refused(&run(&[]), &["often"]);
}

#[test]
fn version_and_help() {
    let bed = Bed::new();
    let version = run(&bed, &["--version"]);
    assert!(text(&version.stdout).contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    let help = run(&bed, &["-h"]);
    assert!(text(&help.stdout).contains("--web.listen-address"), "{help:?}");
}

/// A host without `HAProxy`: nothing is wrong.
#[test]
fn inspect_nothing() {
    let bed = Bed::new();
    let (report, code) = Exporter::inspect(&bed);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["version"], 1);
    assert_eq!(report["haproxys"], serde_json::json!([]));
    assert_eq!(report["unreadable"], serde_json::json!([]));
}
