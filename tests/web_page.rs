//! The page for a person: its last events, its filter, and how headless Chromium shows it.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::*;

/// Names come from others: this one would run, were it not escaped.
const HOSTILE: &str = "<img src=x onerror=console.log(7)>";

/// What each filter shows, and what the page says of a reload, of a cause, and of the exporter.
#[test]
fn events_and_filters() {
    let bed = Bed::new();
    let service = Service::named(&bed, Version::V2_6, Manner::Daemon, "first");
    let other = Service::named(&bed, Version::V2_6, Manner::Daemon, "second");
    let listen = |ports: &[u16]| {
        let binds: Vec<String> =
            ports.iter().map(|port| format!("    bind 127.0.0.1:{port}\n")).collect();
        let binds = binds.concat();
        format!("listen one\n    mode tcp\n{binds}    server nobody 127.0.0.1:9\n")
    };
    service.configure(&listen(&[8001, 8002])).start();
    other.configure(&listen(&[9001])).start();
    let names = [("first", &service), ("second", &other)].map(|(name, service)| {
        let pidfile = service.path("haproxy.pid");
        format!("{{name: {name}, match: {{pidfile: {}}}}}", pidfile.display())
    });
    let names = names.join(", ");
    let yaml = |allowed: &str| {
        format!("defaults: {{stale_grace: 1s, allowed_ports: [{allowed}]}}\nhaproxys: [{names}]\n")
    };
    let exporter = Exporter::configured(&bed, &yaml(""));
    exporter.await_page("anomalies", |page| page.sum("haproxy_host_anomalies", &[]) > 2.0);
    let get = |address: &str| {
        let response = exporter.get(address).unwrap();
        assert_eq!(response.status, 200, "{address}");
        response.body
    };
    service.configure(&listen(&[8001, 8003, 8004])).reload();
    await_true("the reload on the page", || {
        get("/").contains("reloaded; added tcp 127.0.0.1 8003-8004; dropped tcp 127.0.0.1 8002")
    });
    bed.write("exporter.yaml", &yaml("'1-65535'"));
    exporter.running.signal(rustix::process::Signal::HUP);
    await_true("the end of the causes on the page", || {
        let page = get("/");
        page.contains("the exporter read its own configuration again")
            && page.matches("</a> ended after ").count() == 2
    });
    bed.write("exporter.yaml", "nonsense");
    exporter.running.signal(rustix::process::Signal::HUP);
    await_true("the bad configuration on the page", || {
        get("/").contains("the exporter's own configuration is invalid")
    });
    let first = get("/?haproxy=first&x=y");
    assert!(first.contains("reloaded; added") && !first.contains("second"), "{first}");
    assert!(first.contains("<a href=\"/\">Show the whole page</a>"), "{first}");
    let kind = get("/?kind=port_out_of_range");
    assert_eq!(kind.matches("</a> ended after ").count(), 2, "{kind}");
    assert!(!kind.contains("reloaded;") && !kind.contains("<h3>Ports</h3>"), "{kind}");
    let none = get("/?haproxy=%3Cscript%3E");
    assert!(none.contains("There is no such service: &lt;script&gt;"), "{none}");
    let log = exporter.running.log();
    assert_eq!(log.matches("anomaly is over").count(), 2, "{log}");
}

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
    let dom = shown_by_chromium(&bed, "/");
    for wanted in [
        "&lt;img src=x onerror=console.log(7)&gt;</a></h2>",
        // The row of ports, and one cause for two of them.
        "tcp 127.0.0.1 8001-8003",
        "<a href=\"/?kind=port_out_of_range\">port_out_of_range</a>",
        "<a href=\"/runbooks/port_out_of_range\">Runbook</a>",
        "Last events</h2>",
        "2 ports: tcp 127.0.0.1 8002-8003",
        &format!("<td class=\"number\">{}", service.serving()),
        "href=\"/metrics\"",
    ] {
        assert!(dom.contains(wanted), "{wanted} is not in\n{dom}");
    } // The link of its name leads to the page of this service alone.
    let (_, link) = dom.split_once("<h2 id=\"haproxy-0\"><a href=\"").unwrap();
    let (address, _) = link.split_once('"').unwrap();
    let dom = shown_by_chromium(&bed, address);
    for wanted in ["This page shows only the service <b>&lt;img", "tcp 127.0.0.1 8001-8003"] {
        assert!(dom.contains(wanted), "{wanted} is not in\n{dom}");
    }
}

/// A Chromium without a window, and without what it does beside showing a page.
fn chromium(bed: &Bed) -> std::process::Command {
    let mut chromium = bed.command(tool("chromium"));
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", bed.directory().join("profile").display()));
    chromium
}

/// The document as Chromium understands it. Nothing in it may run.
fn shown_by_chromium(bed: &Bed, address: &str) -> String {
    let output = chromium(bed)
        .args(["--enable-logging=stderr", "--v=0", "--dump-dom"])
        .arg(format!("http://127.0.0.1:10101{address}"))
        .output()
        .unwrap();
    let (dom, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{log}");
    // Nothing ran, and the policy had nothing to forbid. The browser's own pages may have messages.
    let of_the_page = |line: &&str| line.contains("CONSOLE") && !line.contains("source: chrome://");
    assert_eq!(log.lines().find(of_the_page), None, "{log}");
    assert!(!dom.contains("<img"), "{dom}");
    dom
}

/// The picture of the README: a reload has left a process behind, which goes on listening on its ports. With
/// `DRAW_FOR_README` set it is written there.
#[test]
fn the_picture_of_the_readme() {
    let bed = Bed::new();
    let lbagent = Service::named(&bed, Version::V3_0, Manner::Daemon, "lbagent");
    let web = Service::named(&bed, Version::V3_0, Manner::Daemon, "web");
    let listen = |ports: &[u16]| {
        let binds = ports.iter().map(|port| format!("    bind 127.0.0.1:{port}\n"));
        let binds: String = binds.collect();
        format!("listen mapping\n    mode tcp\n{binds}    server one 127.0.0.1:9\n")
    };
    web.configure(&listen(&[80, 443])).start();
    lbagent.configure(&listen(&[20000, 20001, 20002])).start();
    let names = [("lbagent", &lbagent), ("web", &web)].map(|(name, service)| {
        format!("{{name: {name}, match: {{pidfile: {}}}}}", service.pidfile().display())
    });
    let yaml = format!("defaults: {{stale_grace: 1s}}\nhaproxys: [{}]\n", names.join(", "));
    let exporter = Exporter::configured(&bed, &yaml);
    exporter.await_samples(1);
    lbagent.configure(&listen(&[20010, 20011]));
    // The process that was to be replaced is not the one that is told to stop.
    let launched = lbagent.launch(&["-sf", "99999"]);
    assert!(launched.status.success(), "{launched:?}");
    exporter.await_page("the old process", |page| {
        page.sum("haproxy_host_anomalies", &[("kind", "port_stale_listener")]) > 0.0
    });
    let readme = std::env::var_os("DRAW_FOR_README").is_some();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let picture =
        if readme { root.join("docs/page.png") } else { bed.directory().join("page.png") };
    let output = chromium(&bed)
        .arg(format!("--screenshot={}", picture.display()))
        .args(["--window-size=1180,900", "--hide-scrollbars", "--force-device-scale-factor=1"])
        .arg("http://127.0.0.1:10101/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let script = root.join("tests/dashboards/palette.mjs");
    let node =
        bed.command(installed("dashboards/node/bin/node")).arg(script).arg(&picture).output();
    let node = node.unwrap();
    assert!(node.status.success(), "{}", text(&node.stderr));
    let size = std::fs::metadata(&picture).unwrap().len();
    assert!((10_000..150_000).contains(&size), "{size} bytes");
}
