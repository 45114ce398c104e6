//! What a client may ask for and how long it may take, on the wire.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::*;

const ADDRESS: &str = "127.0.0.1:10101";
/// A head may take 10 s (`src/web/connection.rs`); a busy machine gets as much again.
const HEAD_PATIENCE: Duration = Duration::from_secs(25);

#[test]
fn gzip_for_those_who_take_it() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    exporter.page();
    let plain = exporter.get("/metrics").unwrap();
    assert!(!plain.headers.contains("content-encoding"), "{}", plain.headers);
    assert!(plain.headers.contains("vary: accept-encoding"), "{}", plain.headers);
    let fetch = |arguments: &[&str]| {
        let url = format!("http://{ADDRESS}/metrics");
        let output =
            bed.command(tool("curl")).args(["-sS", &url]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    };
    let packed = fetch(&["-H", "Accept-Encoding: gzip"]);
    assert_eq!(packed.get(..2), Some([0x1f, 0x8b].as_slice()), "gzip's own mark");
    assert!(packed.len() * 3 < plain.body.len(), "{} of {}", packed.len(), plain.body.len());
    let unpacked = text(&fetch(&["--compressed"]));
    assert!(Page::parse(&unpacked).unwrap().value("haproxy_host_haproxys", &[]).is_some());
}

#[test]
fn only_so_many_requests_at_once() {
    let bed = Bed::new();
    let mut command = bed.command(Exporter::binary());
    command.args(["--web.max-requests", "1", "--web.enable-lifecycle"]);
    let exporter = Exporter::launched(&bed, command, "{}\n");
    exporter.page();
    // A configuration that is a pipe keeps its reader waiting until something is written to it.
    let configuration = bed.directory().join("exporter.yaml");
    fs::remove_file(&configuration).unwrap();
    mknodat(CWD, &configuration, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut reload = bed.inside(|| TcpStream::connect(ADDRESS)).unwrap();
    reload.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST /-/reload HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n");
    reload.write_all(head.as_bytes()).unwrap();

    let refused = await_some("a second request to be refused", || {
        exporter.get("/metrics").filter(|response| response.status == 503)
    });
    assert!(refused.body.contains("--web.max-requests"), "{}", refused.body);
    let filtered = exporter.get("/?haproxy=a&kind=port_split").unwrap();
    assert_eq!(filtered.status, 503, "it is rendered only within the limit: {}", filtered.body);
    assert!(refused.headers.contains("retry-after: 1"), "{}", refused.headers);

    fs::write(&configuration, "{}\n").unwrap();
    let mut answer = String::new();
    reload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(exporter.get("/metrics").unwrap().status, 200);
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    exporter.page();
    let mut slow = bed.inside(|| TcpStream::connect(ADDRESS)).unwrap();
    slow.set_read_timeout(Some(HEAD_PATIENCE)).unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    let ended = slow.read_to_end(&mut answer);
    assert!(ended.is_ok() && begun.elapsed() < HEAD_PATIENCE, "{ended:?}");
    assert!(!text(&answer).contains("haproxy_host"), "nothing was asked for in full");
    assert_eq!(exporter.get("/metrics").unwrap().status, 200);
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let bed = Bed::new();
    let exporter = Exporter::start(&bed);
    exporter.page();
    let mut long = bed.inside(|| TcpStream::connect(ADDRESS)).unwrap();
    long.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(64 << 10));
    // It may be refused before it is written.
    let _ = long.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer);
    assert!(!text(&answer).starts_with("HTTP/1.1 200"), "{}", text(&answer));
    assert_eq!(exporter.get("/metrics").unwrap().status, 200);
}
