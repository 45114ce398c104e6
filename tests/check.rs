//! Compares the verdict of `check` on a configuration with what the real HAProxy then does on a reload.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::proxies::PATIENT_ECHO;
use support::*;

/// Takes connections on port 8001 and keeps them.
const WAITING: &str = "
listen waiting
    mode tcp
    bind 127.0.0.1:8001
    tcp-request inspect-delay 1h
    tcp-request content accept if WAIT_END
    server nobody 127.0.0.1:9
";

fn path(service: &Service<'_>) -> String {
    service.path("haproxy.cfg").display().to_string()
}

/// HAProxy's own outgoing connection got the port of a mapping that is added later. `haproxy -c`
/// does not notice, and the reload fails.
fn an_outgoing_connection_has_the_port(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(PATIENT_ECHO);
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let serving = service.start();
    let mut flow = Flow::held_by(&bed, "127.0.0.1:8002", serving);
    // From here on the kernel has only one port to give.
    bed.sysctl("ipv4/ip_local_port_range", "59044 59045");
    bed.sysctl("ipv4/ip_local_reserved_ports", "59045");
    flow.prove();
    await_true("the connection from 59044", || bed.connections(serving) == 2);
    let mapping = format!("{PATIENT_ECHO}\nfrontend mapping\n    mode tcp\n    bind :59044\n");
    service.configure(&mapping);
    let file = path(&service);

    let config = bed.run(service.binary.display().to_string(), &["-c", "-q", "-f", &file]);
    assert!(config.status.success(), "haproxy -c is content: {}", text(&config.stderr));
    let connection = "127.0.0.1:59044→127.0.0.1:9000";
    let said = assert_exit(
        &bed,
        &["-f", &file],
        1,
        &["error[port_blocked]", connection, &format!("this haproxy itself (pid {serving})")],
    );
    assert!(said.contains("bind :59044"), "the line is shown: {said}");
    let report = check_json(&bed, &[]);
    let blocked: Vec<_> = report["anomalies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|anomaly| anomaly["kind"] == "port_blocked")
        .collect();
    assert_eq!(blocked.len(), 1, "{report:#}");
    assert_eq!(blocked[0]["severity"], "error");
    assert_eq!(blocked[0]["haproxy"], "haproxy");
    assert_eq!(blocked[0]["holder"], "haproxy outgoing");
    assert_eq!((&blocked[0]["port"], &blocked[0]["protocol"]), (&59044.into(), &"tcp".into()));
    let failed = service.try_reload();
    assert!(!failed.status.success(), "the reload fails, as it was said");
    assert!(text(&failed.stderr).to_lowercase().contains("address"), "{}", text(&failed.stderr));
    assert_eq!(service.serving(), serving);

    flow.reset();
    await_true("the connection to end", || bed.connections(serving) == 0);
    assert_exit(
        &bed,
        &["-f", &file],
        0,
        &["warning[port_ephemeral]", "ip_local_reserved_ports=59044-59045"],
    );
    assert_ne!(service.reload(), serving);
    assert_exit(&bed, &["-f", &file], 0, &[]);
}

for_each_version! {
    founding_incident => |version| an_outgoing_connection_has_the_port(version, Manner::Daemon);
    founding_incident_with_transfer => |version| an_outgoing_connection_has_the_port(version, Manner::DaemonTransfer);
    a_good_reload => good_reload;
    holders => the_verdict_agrees_with_haproxy;
}

/// As a guard `check` lets every good reload pass, however the generations share their sockets by then.
fn good_reload(version: Version) {
    for manner in [Manner::Daemon, Manner::DaemonTransfer, Manner::Master] {
        let bed = Bed::new();
        let service = Service::new(&bed, version, manner);
        let mut quic = "frontend wild\n    mode tcp\n    bind :8080-8089\n".to_owned();
        let mut global = "";
        if version >= Version::V3_0 {
            global = "    limited-quic\n"; // where the SSL library knows no better
            let pem = certificate(&bed).display().to_string();
            quic = format!(
                "frontend wild\n    mode http\n    bind quic4@:8443 ssl crt {pem}\n    bind :8080-8089\n"
            );
        }
        let proxies = format!("{WAITING}{quic}");
        service.configure_with(global, &proxies);
        let first = service.start();
        let file = path(&service);
        let _held = Flow::held_by(&bed, "127.0.0.1:8001", first);
        for arguments in [&["-f", file.as_str(), "--strict"][..], &["--strict"][..]] {
            assert_exit(&bed, arguments, 0, &["haproxy: "]);
        }
        // The address is narrower, and a port is new.
        service
            .configure_with(global, &format!("{proxies}    bind 127.0.0.1:8080\n    bind :8090\n"));
        assert_exit(&bed, &["-f", &file], 0, &[]);
        let second = service.reload();
        // Its predecessor drains, and holds accepted connections on a listener's port.
        assert!(bed.is_alive(first), "{manner:?}");
        assert_exit(&bed, &["-f", &file], 0, &[]);
        // A port comes back while accepted connections of the old one still use it.
        service.configure_with(global, &quic);
        let third = service.reload();
        assert_ne!(second, third);
        service.configure_with(global, &proxies);
        assert_exit(&bed, &["-f", &file], 0, &[]);
        service.reload();
    }
}

/// For each holder of a port, the verdict of `check` agrees with whether HAProxy then starts.
fn the_verdict_agrees_with_haproxy(version: Version) {
    let table = [
        ("TCP-LISTEN:9053,reuseaddr,fork PIPE", "bind :9053", 1, "is held by socat (pid "),
        ("TCP-LISTEN:9053,reuseport,fork PIPE", "bind :9053", 0, "would be shared with socat"),
        ("TCP-LISTEN:9053,bind=127.0.0.1,fork PIPE", "bind :9053", 1, "is held by socat"),
        ("TCP-LISTEN:9053,bind=127.0.0.2,fork PIPE", "bind 127.0.0.1:9053", 0, "nothing wrong"),
        ("TCP6-LISTEN:9053,ipv6only=0,fork PIPE", "bind :9053", 1, "is held by socat"),
        ("TCP6-LISTEN:9053,ipv6only=1,fork PIPE", "bind :9053", 0, "nothing wrong"),
        ("TCP-LISTEN:9053,fork PIPE", "bind :::9053", 1, "is held by socat"),
        ("TCP-LISTEN:9053,fork PIPE", "bind :::9053 v6only", 0, "nothing wrong"),
        ("UDP-RECV:9053 PIPE", "bind :9053", 0, "nothing wrong"),
    ];
    for (holder, bind, code, words) in table {
        let bed = Bed::new();
        let mut command = bed.command(tool("socat"));
        command.args(holder.split(' '));
        let _holder = bed.start(command, "socat.log");
        await_true("the port to be held", || {
            bed.shell("ss -Haunlt").lines().any(|line| line.contains(":9053 "))
        });
        let service = Service::new(&bed, version, Manner::Daemon);
        service.configure(&format!("frontend a\n    mode tcp\n    {bind}\n"));
        assert_exit(&bed, &["-f", &path(&service)], code, &[words]);
        let started = service.launch(&[]).status.success();
        assert_eq!(started, code == 0, "{holder} {bind}: HAProxy disagrees");
    }
}

/// A listener of another user is in the way with any options.
#[test]
fn another_users_listener() {
    let bed = Bed::new();
    let mut command = bed.command(tool("setpriv"));
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "socat"]);
    command.args(["TCP-LISTEN:9053,reuseport,fork", "PIPE"]);
    let _holder = bed.start(command, "socat.log");
    await_true("the port to be held", || bed.shell("ss -Hanlt").contains(":9053 "));
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure("frontend a\n    mode tcp\n    bind :9053\n");
    assert_exit(&bed, &["-f", &path(&service)], 1, &["is held by socat", "another user"]);
    assert!(!service.launch(&[]).status.success());
}

#[test]
fn policy_and_the_ephemeral_range() {
    let bed = Bed::new();
    bed.sysctl("ipv4/ip_local_reserved_ports", "8080");
    let yaml = "defaults: {allowed_ports: [\"80-90\", \"50000-50009\"]}\n\
                haproxys: [{name: other, match: {config: /nowhere}, allowed_ports: [\"22\"]}]\n";
    let yaml = bed.write("exporter.yaml", yaml).display().to_string();
    let file = bed.write("a.cfg", "frontend a\n    bind :88-92\n    bind :50000-50001,:50005\n");
    let file = file.display().to_string();
    let with = |more: &[&'static str]| [&["--config.file", &yaml, "-f", &file], more].concat();
    let said = assert_exit(
        &bed,
        &with(&[]),
        1,
        &["error[port_out_of_range]: port 91-92 is not allowed", "a.cfg:2:10", "^^^^^^"],
    );
    assert!(!said.contains("50001 is not allowed"), "{said}");
    assert_exit(
        &bed,
        &with(&["--haproxy", "other"]),
        1,
        &["port 88-92 is not allowed", "50000-50001"],
    );
    assert_exit(&bed, &with(&["--haproxy", "nobody"]), 2, &["unknown haproxy \"nobody\""]);

    let yaml = "defaults:\n  reserved_ports: [{name: Kubernetes NodePort, ports: [30000-32767]}]\n";
    let yaml = bed.write("reserved.yaml", yaml).display().to_string();
    let node = bed.write("node.cfg", "frontend a\n    bind :30885\n").display().to_string();
    let named = ["error[port_out_of_range]: port 30885 is reserved for Kubernetes NodePort"];
    assert_exit(&bed, &["--config.file", &yaml, "-f", &node], 1, &named);

    let file =
        bed.write("a.cfg", "frontend a\n    bind :50000-50001,:50005\n").display().to_string();
    let line = "sysctl -w net.ipv4.ip_local_reserved_ports=8080,50000-50001,50005";
    assert_exit(&bed, &["-f", &file], 0, &["warning[port_ephemeral]", line]);
    assert_exit(&bed, &["-f", &file, "--strict"], 1, &["error[port_ephemeral]", line]);
    assert_exit(&bed, &["-f", &file, "--strict", "--offline"], 0, &["nothing wrong"]);
    // The whole line as it is printed.
    bed.shell(line);
    assert_exit(&bed, &["-f", &file, "--strict"], 0, &["nothing wrong"]);
}

#[test]
fn offline_asks_nothing_of_this_host() {
    let bed = Bed::new();
    let mut command = bed.command(tool("socat"));
    command.args(["TCP-LISTEN:9053,fork", "PIPE"]);
    let _holder = bed.start(command, "socat.log");
    await_true("the port to be held", || bed.shell("ss -Hanlt").contains(":9053 "));
    let file = bed.write("a.cfg", "frontend a\n    bind :9053\n    bind 192.0.2.7:80\n");
    let file = file.display().to_string();
    assert_exit(&bed, &["-f", &file], 1, &["error[address_not_local]", "error[port_blocked]"]);
    assert_exit(&bed, &["-f", &file, "--offline"], 0, &["2 ports in 1 file: nothing wrong"]);
    bed.sysctl("ipv4/ip_nonlocal_bind", "1");
    let said = assert_exit(&bed, &["-f", &file], 1, &["error[port_blocked]"]);
    assert!(!said.contains("address_not_local"), "{said}");
}

/// No content of a file makes the answer long, slow, noisy or wrong.
#[test]
fn hostile_configurations() {
    let bed = Bed::new();
    let cases: [(&str, Vec<u8>, i32); 7] = [
        (
            "long",
            [b"frontend a\n    bind :80 ".to_vec(), vec![b'x'; 1 << 20], b"\n".to_vec()].concat(),
            0,
        ),
        ("binary", (0..=255u8).cycle().take(1 << 20).collect(), 1),
        ("quote", b"frontend a\n    bind \":80\n".to_vec(), 1),
        ("escape", b"frontend a\n    bind \x1b[2J\x07:80\"\n".to_vec(), 1),
        ("deep", [b".if 1\n".repeat(1000), b"bind :80\n".to_vec()].concat(), 1),
        ("nul", b"frontend a\n    bind :80\0junk\n".to_vec(), 1),
        ("backwards", b"frontend a\n    bind :90-80\n".to_vec(), 1),
    ];
    for (name, content, code) in cases {
        let file = bed.directory().join(format!("{name}.cfg"));
        fs::write(&file, content).unwrap();
        let begun = std::time::Instant::now();
        let (output, said) = check(&bed, &["-f", &file.display().to_string()]);
        assert!(begun.elapsed().as_secs() < 10, "{name}: {:?}", begun.elapsed());
        assert!(said.len() < 64 << 10, "{name}: {} bytes", said.len());
        assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{name}: {said:?}");
        if name != "long" {
            assert_eq!(output.status.code(), Some(code), "{name}: {said}");
            assert!(said.contains(&format!("{name}.cfg:")), "{name} has a position: {said}");
        }
    }
}

#[test]
fn files_that_cannot_be_read() {
    let bed = Bed::new();
    let directory = bed.directory().join("d");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.cfg"), "frontend a\n    bind :80\n").unwrap();
    std::os::unix::fs::symlink("..", directory.join("loop.cfg")).unwrap();
    let name = |path: &Path| path.display().to_string();
    assert_exit(&bed, &["-f", &name(&directory)], 0, &["1 port in 1 file: nothing wrong"]);
    assert_exit(&bed, &["-C", &name(&directory), "-f", "a.cfg"], 0, &["1 port in 1 file"]);
    assert_exit(&bed, &["-f", &name(&directory.join("no.cfg"))], 2, &["no such file or directory"]);
    std::os::unix::fs::symlink("nowhere", directory.join("b.cfg")).unwrap();
    assert_exit(&bed, &["-f", &name(&directory)], 1, &["error[config_invalid]", "b.cfg"]);
    fs::remove_file(directory.join("b.cfg")).unwrap();
    bed.shell(&format!("mkfifo {}", name(&directory.join("pipe.cfg"))));
    let pipe = name(&directory.join("pipe.cfg"));
    assert_exit(&bed, &["-f", &pipe], 3, &["not a regular file"]);
}

/// Without rights, `check` reports what it could not see and which right is missing.
#[test]
fn without_rights() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Master);
    service.configure(WAITING);
    service.start();
    let binary = bed.directory().join("exporter");
    copy_program(Exporter::binary(), &binary);
    let as_nobody = |arguments: &[&str]| {
        let mut command = bed.command(tool("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
        let output = command.arg("check").args(arguments).output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        (output.status.code(), said)
    };
    let file = path(&service);
    for arguments in [&["-f", file.as_str()][..], &["-f", &file, "--strict"]] {
        let (code, said) = as_nobody(arguments);
        assert_eq!(code, Some(3), "{arguments:?}: {said}");
        assert!(said.contains("CAP_"), "{said}");
    }
    let (code, said) = as_nobody(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("CAP_"), "{said}");
    // Where no socket is in the way, nothing is missing.
    let free = bed.write("free.cfg", "frontend a\n    bind :8099\n").display().to_string();
    let (code, said) = as_nobody(&["-f", &free]);
    assert_eq!(code, Some(0), "{said}");
    let secret = bed.write("secret.cfg", "frontend a\n    bind :8099\n").display().to_string();
    bed.shell(&format!("chmod 600 {secret}"));
    let (code, said) = as_nobody(&["-f", &secret]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("CAP_DAC_READ_SEARCH"), "{said}");
}

#[test]
fn a_host_without_haproxy() {
    let bed = Bed::new();
    assert_exit(&bed, &[], 0, &["no HAProxy runs on this host"]);
    assert_eq!(check_json(&bed, &[])["listeners"], Value::Array(vec![]));
    let file = bed.write("a.cfg", "frontend a\n    bind :80-82\n    bind :::443 v6only\n");
    let report = check_json(&bed, &["-f", &file.display().to_string()]);
    let listeners = report["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 4, "{report:#}");
    assert_eq!(listeners[1]["port"], 81);
    assert_eq!(listeners[0]["address"], "0.0.0.0");
    assert_eq!((&listeners[3]["address"], &listeners[3]["line"]), (&"::".into(), &3.into()));
    assert_eq!(listeners[3]["section"], "frontend a");
}

/// The guard of a unit, as the README has it: it refuses a reload that would fail, refuses also when the
/// guard itself does not work, and leaves the rest to HAProxy.
#[test]
fn the_guard_of_the_readme_fails_safe() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let begin = "ExecReload=/bin/sh -c '";
    let line = readme.lines().find_map(|line| line.strip_prefix(begin)).unwrap();
    let script = line.strip_suffix('\'').unwrap();
    let bed = Bed::new();
    let program = bed.write("haproxy-host-exporter", "");
    let script = format!("PATH={}; {script}", bed.directory().display());
    let run = || bed.run("/bin/sh", &["-c", &script]).status.code();
    assert_eq!(run(), Some(1), "a guard that cannot be executed");
    bed.shell(&format!("chmod 755 {}", program.display()));
    for (code, passes) in [(0, true), (1, false), (2, false), (3, true), (101, false)] {
        bed.write("haproxy-host-exporter", &format!("#!/bin/sh\nexit {code}\n"));
        assert_eq!(run() == Some(0), passes, "exit code {code}");
    }
}
