//! The HTTP side, without and with a `HAProxy`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // values on a page are small whole numbers

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;
use support::*;

const LISTENER: &str =
    "listen one\n    mode tcp\n    bind 127.0.0.1:8001\n    server nobody 127.0.0.1:9\n";

#[test]
fn a_host_without_haproxy() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    let page = exporter.page();
    assert_eq!(page.value("haproxy_host_haproxys", &[]), Some(0.0));
    assert_eq!(page.haproxys().len(), 0);
    assert!(page.anomalies().is_empty());
    assert_eq!(page.value("haproxy_host_exporter_build_info", &[]), Some(1.0));
    assert_eq!(page.sum("haproxy_host_unreadable", &[]), 0.0, "{}", page.brief());
    for collector in ["processes", "sockets", "ownership"] {
        let labels = [("collector", collector)];
        assert_eq!(page.value("haproxy_host_sample_success", &labels), Some(1.0), "{collector}");
    }
    assert!(page.value("process_resident_memory_bytes", &[]).unwrap() > 0.0);
}

#[test]
fn endpoints() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    service.configure(LISTENER).start();
    let exporter = Exporter::start(&bed);
    exporter.await_page("a haproxy", |page| page.is("haproxy_host_up", &[], 1.0));
    let get = |path| exporter.get(path).unwrap();

    let metrics = get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.headers.contains("content-type: text/plain; version=0.0.4"),
        "{}",
        metrics.headers
    );
    let home = get("/");
    assert_eq!(home.status, 200);
    assert!(home.headers.contains("content-type: text/html"), "{}", home.headers);
    let pid = service.serving().to_string();
    for wanted in ["/metrics", "8001", &pid] {
        assert!(home.body.contains(wanted), "{wanted} is not on the page:\n{}", home.body);
    }
    assert_eq!(get("/-/healthy").status, 200);
    assert_eq!(get("/-/ready").status, 200);
    assert_eq!(get("/nonsense").status, 404);
    assert_eq!(get("/metrics?name=value").status, 200);
    for path in ["/metrics", "/", "/-/healthy", "/-/ready"] {
        let refused = exporter.request("POST", path).unwrap();
        assert_eq!(refused.status, 405, "{path}");
        assert!(refused.headers.contains("allow: "), "{}", refused.headers);
        let head = exporter.request("HEAD", path).unwrap();
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
}

#[test]
fn another_telemetry_path() {
    let bed = Bed::new();
    let mut command = bed.command(Exporter::binary());
    command.args(["--web.telemetry-path", "/elsewhere"]);
    let exporter = Exporter::launched(&bed, command, "{}\n");
    assert_eq!(exporter.get("/elsewhere").unwrap().status, 200);
    assert_eq!(exporter.get("/metrics").unwrap().status, 404);
}

/// A request under way is answered, a new one refused, and the exit is clean.
#[test]
fn stops_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let bed = Bed::new();
        let mut exporter = Exporter::start(&bed);
        let mut stream = bed.inside(|| TcpStream::connect("127.0.0.1:10101")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Accepted for sure: it has answered once.
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        assert!(stream.read(&mut answer).unwrap() > 0);
        // Half a request is on its way when the signal comes.
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\n").unwrap();
        exporter.running.signal(signal);
        await_true("no more connections", || {
            bed.inside(|| TcpStream::connect("127.0.0.1:10101")).is_err()
        });
        stream.write_all(b"Host: x\r\n\r\n").unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 200"), "{rest}");
        assert_eq!(exporter.running.exit_code(), 0, "{}", exporter.running.log());
    }
}

/// A client that never finishes does not hold it for ever.
#[test]
fn stops_in_spite_of_a_silent_client() {
    let bed = Bed::new();
    let mut exporter = Exporter::start(&bed);
    let _silent = bed.inside(|| TcpStream::connect("127.0.0.1:10101")).unwrap();
    exporter.running.signal(Signal::TERM);
    assert_eq!(exporter.running.exit_code(), 0, "{}", exporter.running.log());
}

/// Clients that say nothing and clients that ask for everything do not keep others from the page.
#[test]
fn crowds() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    let silent: Vec<_> =
        bed.inside(|| (0..200).map(|_| TcpStream::connect("127.0.0.1:10101").unwrap()).collect());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..20).for_each(|_| drop(exporter.page())));
        }
    });
    drop(silent);
    exporter.page();
}

/// What an image's health check runs: the exporter answers, a stopped one does not in time, and where
/// nothing listens there is no answer.
#[test]
fn healthcheck_asks_a_running_exporter() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    let ask = |arguments: &[&str]| {
        let output = Exporter::command(&bed, &[&["healthcheck"], arguments].concat());
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let url = |path: &str| format!("http://127.0.0.1:10101{path}");
    assert_eq!(ask(&[]), (0, String::new()));
    assert_eq!(ask(&["--web.listen-address", "[::]:10101,:9"]), (0, String::new()));
    assert_eq!(ask(&["--url", &url("/-/ready")]), (0, String::new()));
    let (code, said) = ask(&["--url", &url("/nonsense")]);
    assert!(code == 1 && said.contains("/nonsense: answered \"HTTP/1.1 404"), "{code} {said}");
    let (code, said) = ask(&["--url", "https://127.0.0.1:10101"]);
    assert!(code == 1 && said.contains("/-/healthy: "), "{code} {said}");
    let (code, said) = ask(&["--url", "localhost"]);
    assert!(code == 2 && said.contains("write http://HOST:PORT/PATH"), "{code} {said}");

    let _silent = bed.inside(|| TcpListener::bind("127.0.0.1:9")).unwrap();
    let (code, said) = ask(&["--web.listen-address", ":9", "--timeout", "200ms"]);
    assert!(code == 1 && said.contains("localhost:9/-/healthy: "), "{code} {said}");
    drop(exporter);
    let (code, said) = ask(&[]);
    assert!(code == 1 && said.contains("refused"), "{code} {said}");
}
