//! The page for a person, in headless Chromium.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::*;

/// Names come from others: this one would run, were it not escaped.
const HOSTILE: &str = "<img src=x onerror=console.log(7)>";

#[test]
fn a_browser_shows_it() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    let ports = [8001, 8002, 8003].map(|port| format!("    bind 127.0.0.1:{port}\n")).concat();
    let listen = format!("listen one\n    mode tcp\n{ports}    server nobody 127.0.0.1:9\n");
    service.configure(&listen).start();
    let yaml = format!(
        "defaults: {{stale_grace: 1s, allowed_ports: ['8001']}}\n\
         haproxys: [{{name: '{HOSTILE}', match: {{pidfile: {}}}}}]\n",
        service.path("haproxy.pid").display()
    );
    let exporter = Exporter::configured(&bed, &yaml);
    exporter.await_page("anomalies", |page| page.sum("haproxy_host_anomalies", &[]) > 1.0);
    let mut chromium = bed.command(tool("chromium"));
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", bed.directory().join("profile").display()))
        .args(["--enable-logging=stderr", "--v=0", "--dump-dom", "http://127.0.0.1:10101/"]);
    let output = chromium.output().unwrap();
    let (dom, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{log}");
    // Nothing ran, and the policy had nothing to forbid. The browser's own pages may have messages.
    let of_the_page = |line: &&str| line.contains("CONSOLE") && !line.contains("source: chrome://");
    assert_eq!(log.lines().find(of_the_page), None, "{log}");
    assert!(!dom.contains("<img"), "{dom}");
    for wanted in [
        "&lt;img src=x onerror=console.log(7)&gt;</h2>",
        // The row of ports, and one cause for two of them.
        "tcp 127.0.0.1 8001-8003",
        "<a href=\"/runbooks/port_out_of_range\">port_out_of_range</a>",
        "2 ports: tcp 127.0.0.1 8002-8003",
        &format!("<td class=\"number\">{}", service.serving()),
        "href=\"/metrics\"",
    ] {
        assert!(dom.contains(wanted), "{wanted} is not in\n{dom}");
    }
}
