//! `check --port` and `check --free`: what is said of a port number before it is handed out, on real
//! sockets and beside a real HAProxy.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::net::{TcpListener, TcpStream, UdpSocket};

use serde_json::{Value, json};
use support::*;

fn ports(bed: &Bed, arguments: &[&str]) -> Value {
    let report = check_json(bed, arguments);
    assert_eq!(report["version"], 1);
    report["ports"].clone()
}

#[test]
fn a_port_that_nothing_has_is_free() {
    let bed = Bed::new();
    let expected = "tcp 0.0.0.0:8000-8010: free\nudp 0.0.0.0:8000-8010: free\n";
    assert_eq!(assert_exit(&bed, &["--port", "8000-8010"], 0, &[]), expected);
    let ports = ports(&bed, &["--port", "udp/[::1]:8000"]);
    let expected = json!([{
        "port": 8000, "protocol": "udp", "address": "::1", "free": true, "anomalies": [],
    }]);
    assert_eq!(ports, expected);
}

#[test]
fn what_is_bound_names_its_holder() {
    let bed = Bed::new();
    let _tcp = bed.inside(|| TcpListener::bind("127.0.0.1:8001")).unwrap();
    let _udp = bed.inside(|| UdpSocket::bind("0.0.0.0:8003")).unwrap();
    let said = assert_exit(&bed, &["--port", "8000-8003"], 1, &[]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "tcp 0.0.0.0:8000: free", "{said}");
    assert!(lines[1].starts_with("tcp 0.0.0.0:8001: not free: held by "), "{said}");
    assert_eq!(lines[2], "tcp 0.0.0.0:8002-8003: free", "{said}");
    assert_eq!(lines[3], "udp 0.0.0.0:8000-8002: free", "{said}");
    assert!(lines[4].starts_with("udp 0.0.0.0:8003: not free: held by "), "{said}");
    assert_exit(&bed, &["--port", "tcp/127.0.0.2:8001"], 0, &["free"]);
    assert_exit(&bed, &["--port", "udp/8001"], 0, &["free"]);
    // The kernel gives this listener's port to both families.
    let _dual = bed.inside(|| TcpListener::bind("[::]:8005")).unwrap();
    assert_exit(&bed, &["--port", "tcp/8005"], 1, &["held by"]);
    assert_exit(&bed, &["--port", "tcp/192.0.2.1:80"], 1, &["is not an address of this host"]);
}

#[test]
fn a_connection_holds_its_source_port() {
    let bed = Bed::new();
    bed.sysctl("ipv4/ip_local_port_range", "59044 59045");
    bed.sysctl("ipv4/ip_local_reserved_ports", "59045");
    let listener = bed.inside(|| TcpListener::bind("127.0.0.1:9000")).unwrap();
    let _flow = bed.inside(|| TcpStream::connect("127.0.0.1:9000")).unwrap();
    let _accepted = listener.accept().unwrap();
    let held = "held by the connection 127.0.0.1:59044→127.0.0.1:9000 of ";
    assert_exit(&bed, &["--port", "tcp/59044"], 1, &[held, "warning: in the ephemeral range"]);
    // The same number is free on another address, and a reserved one is not ephemeral.
    assert_exit(&bed, &["--port", "tcp/127.0.0.2:59044"], 0, &["warning: in the ephemeral"]);
    assert_exit(&bed, &["--port", "tcp/127.0.0.2:59044", "--strict"], 1, &["not free"]);
    let said = assert_exit(&bed, &["--port", "tcp/59045", "--strict"], 0, &["free"]);
    assert!(!said.contains("ephemeral"), "{said}");
}

/// A HAProxy that serves, an edit that waits for its reload, and a haproxy that does not run.
fn what_is_declared_names_its_line(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure("frontend web\n    mode tcp\n    bind :8001-8002\n    bind :8004\n");
    service.start();
    service.configure("frontend web\n    mode tcp\n    bind :8001-8003\n");
    let down = bed.write("down.cfg", "frontend down\n    bind 127.0.0.1:8006\n");
    let yaml = format!("haproxys: [{{name: down, match: {{config: {}}}}}]\n", down.display());
    let yaml = bed.write("exporter.yaml", &yaml).display().to_string();
    let ports = ports(&bed, &["--config.file", &yaml, "--port", "tcp/8001-8006"]);
    let kinds = |index: usize| -> Vec<String> {
        let anomalies = ports[index]["anomalies"].as_array().unwrap().iter();
        anomalies.map(|one| one["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(0), ["port_duplicate", "port_blocked"], "{ports:#}");
    assert_eq!(kinds(2), ["port_duplicate"], "declared and not bound: {ports:#}");
    assert_eq!(kinds(3), ["port_blocked"], "bound and not declared any more: {ports:#}");
    assert_eq!(kinds(4), [""; 0], "{ports:#}");
    assert_eq!(kinds(5), ["port_duplicate"], "{ports:#}");
    let declared = &ports[2]["anomalies"][0];
    let file = service.path("haproxy.cfg").display().to_string();
    let text = std::fs::read_to_string(&file).unwrap();
    let line = text.lines().position(|line| line.contains("8001-8003")).unwrap() + 1;
    assert_eq!((&declared["file"], &declared["line"]), (&file.into(), &line.into()));
    assert_eq!(declared["severity"], "error");
    assert_eq!(ports[0]["anomalies"][1]["holder"], "haproxy haproxy");
    assert_eq!(ports[5]["anomalies"][0]["line"], 2);
    // The policy of the service counts, and what it holds is as much in the way as anything else.
    assert_exit(&bed, &["--haproxy", "haproxy", "--port", "tcp/8001"], 1, &["held by haproxy"]);
    assert_exit(&bed, &["--haproxy", "nobody", "--port", "8001"], 2, &["unknown haproxy"]);
}

for_each_version! {
    declared => what_is_declared_names_its_line;
}

#[test]
fn the_policy_and_the_first_free_numbers() {
    let bed = Bed::new();
    let yaml = "defaults: {allowed_ports: [\"tcp/8000-8004\", \"40000\"]}\n\
                haproxys: [{name: other, match: {config: /nowhere}, allowed_ports: [\"9000\"]}]\n";
    let yaml = bed.write("exporter.yaml", yaml).display().to_string();
    let _held = bed.inside(|| TcpListener::bind("127.0.0.1:8001")).unwrap();
    let with = |more: &[&'static str]| [&["--config.file", yaml.as_str()], more].concat();
    assert_exit(&bed, &with(&["--port", "tcp/8005"]), 1, &["not free: not in allowed_ports"]);
    assert_exit(&bed, &with(&["--haproxy", "other", "--port", "9000"]), 0, &["free"]);
    assert_eq!(assert_exit(&bed, &with(&["--free", "2"]), 0, &[]), "8000\n8002\n");
    let within = with(&["--free", "2", "--within", "8001-8003"]);
    assert_eq!(assert_exit(&bed, &within, 0, &[]), "8002\n8003\n");
    // All that were found are printed, and never a number of the ephemeral range.
    let (output, said) = check(&bed, &with(&["--free", "6"]));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(text(&output.stdout), "8000\n8002\n8003\n8004\n");
    assert!(text(&output.stderr).contains("found 4 of 6 ports, 2 missing"), "{said}");
    bed.sysctl("ipv4/ip_local_reserved_ports", "40000");
    assert_exit(&bed, &with(&["--free", "5"]), 0, &["40000\n"]);
    let found = ports(&bed, &with(&["--free", "2"]));
    let numbers: Vec<_> = found.as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert_eq!(numbers, [8000, 8002]);
    assert_eq!(found[0]["free"], true);
}

/// Without rights nothing is called free, and the missing right is named.
#[test]
fn without_rights() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Master);
    service.configure("frontend web\n    mode tcp\n    bind :8001\n");
    service.start();
    for arguments in [&["--port", "8005"][..], &["--free", "1", "--within", "8005-8006"]] {
        let output = Exporter::as_nobody(&bed).arg("check").args(arguments).output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("CAP_") && !said.contains("free\n"), "{said}");
    }
    // What is certainly in the way needs no right.
    let output = Exporter::as_nobody(&bed).args(["check", "--port", "tcp/8001"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}

/// No right would make readable what HAProxy has read from a pipe.
#[test]
fn what_cannot_be_read_again_is_not_blamed_on_a_right() {
    let bed = Bed::new();
    let config = "listen a\n mode tcp\n timeout client 1s\n timeout connect 1s\n timeout server 1s\n bind :8001\n";
    let file = bed.write("piped.cfg", config);
    let haproxy = Version::V3_2.binary();
    bed.shell(&format!("{} -D -f /dev/stdin <{}", haproxy.display(), file.display()));
    let said = assert_exit(&bed, &["--port", "tcp/8005"], 3, &["could not read", "/dev/stdin: "]);
    assert!(!said.contains("CAP_DAC_READ_SEARCH"), "{said}");
}

/// Another user's HAProxy cannot make ports look taken that it does not hold, nor prevent an answer.
#[test]
fn another_user_cannot_claim_every_port() {
    let bed = Bed::new();
    let binary = Version::V3_0.binary();
    let all = bed.write("all.cfg", "frontend a\n    mode tcp\n    bind :8001\n");
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    bed.shell(&format!("{user} {} -D -f {}", binary.display(), all.display()));
    bed.write("all.cfg", "frontend a\n    mode tcp\n    bind :1-65535\n");
    let warning = "free: warning: declared by haproxy all@65534 in ";
    assert_exit(&bed, &["--port", "tcp/8005"], 0, &[warning, "all.cfg:3"]);
    assert_exit(&bed, &["--port", "tcp/8001"], 1, &["held by haproxy all@65534"]);
    assert_exit(&bed, &["--port", "tcp/8005", "--strict"], 1, &["not free"]);
    let within = ["--free", "1", "--within", "8001-8009"];
    assert_eq!(assert_exit(&bed, &within, 0, &[]), "8002\n");
    // The operator may vouch for it by giving it a name.
    let yaml = format!("haproxys: [{{name: app, match: {{config: {}}}}}]\n", all.display());
    let yaml = bed.write("exporter.yaml", &yaml).display().to_string();
    let arguments = ["--config.file", &yaml, "--port", "tcp/8005"];
    assert_exit(&bed, &arguments, 1, &["not free: declared by haproxy app in "]);
}
