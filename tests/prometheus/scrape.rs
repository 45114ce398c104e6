//! The real Prometheus and its tool: both take the page as it is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use super::support::*;
use serde_json::Value;

const LISTENER: &str =
    "listen one\n    mode tcp\n    bind 127.0.0.1:8001\n    server nobody 127.0.0.1:9\n";

/// `promtool check metrics` finds nothing wrong with any page.
#[track_caller]
fn assert_clean(bed: &Bed, exporter: &Exporter<'_>) {
    let body = exporter.get("/metrics").unwrap().body;
    let page = bed.write("page", &body);
    let output = bed
        .command(oldest_prometheus("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::from(fs::File::open(page).unwrap()))
        .output()
        .unwrap();
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{body}");
}

#[test]
fn promtool_accepts_the_page() {
    let bed = Bed::new();
    // A name that needs all the escaping there is.
    let yaml = format!(
        "defaults: {{stale_grace: 1s}}\nhaproxys: [{{name: 'a \"b\" \\ c', match: {{pidfile: {}}}}}]\n",
        bed.directory().join("other/haproxy.pid").display()
    );
    let exporter = Exporter::configured(&bed, &yaml);
    assert_clean(&bed, &exporter);

    let service = Service::new(&bed, Version::V3_2, Manner::Master);
    service.configure(LISTENER).start();
    exporter.await_page("a haproxy", |page| page.sum("haproxy_host_up", &[]) > 0.0);
    assert_clean(&bed, &exporter);

    // With a stale process and an anomaly.
    let other = Service::named(&bed, Version::V2_6, Manner::Daemon, "other");
    other.configure(LISTENER).start();
    let flow = Flow::open(&bed, "127.0.0.1:8001");
    service.reload();
    exporter.await_page("an anomaly", |page| !page.anomalies().is_empty());
    assert_clean(&bed, &exporter);
    drop(flow);

    // And when all are gone.
    bed.kill("KILL", service.master());
    bed.kill("KILL", other.serving());
    exporter.await_page("no service", |page| page.sum("haproxy_host_up", &[]) < 1.0);
    assert_clean(&bed, &exporter);
}

#[test]
fn prometheus_scrapes_it() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Master);
    service.configure(LISTENER).start();
    let _exporter = Exporter::start(&bed);
    let config = bed.write(
        "prometheus.yml",
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs: [{job_name: haproxy-host, static_configs: [{targets: [\"127.0.0.1:10101\"]}]}]
",
    );
    let mut command = bed.command(oldest_prometheus("prometheus"));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", bed.directory().join("tsdb").display()))
        .arg("--web.listen-address=127.0.0.1:9090");
    let prometheus = bed.start(command, "prometheus.log");
    for (query, wanted) in [
        ("up", "1"),
        ("haproxy_host_up", "1"),
        ("haproxy_host_haproxys", "1"),
        ("scrape_samples_post_metric_relabeling>bool+10", "1"),
    ] {
        await_some(&format!("{query} to be {wanted}"), || {
            let value = query_prometheus(&bed, query)?;
            (value == wanted).then_some(())
        });
    }
    let log = prometheus.log();
    assert!(!log.contains("level=warn") && !log.contains("level=error"), "{log}");
}

/// The value of the one series a query gives, by Prometheus's HTTP API.
fn query_prometheus(bed: &Bed, query: &str) -> Option<String> {
    let mut stream = bed.inside(|| TcpStream::connect("127.0.0.1:9090")).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET /api/v1/query?query={} HTTP/1.0\r\n\r\n", query.replace('+', "%20"));
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let json: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    let series = json["data"]["result"].as_array()?;
    (series.len() == 1).then(|| series[0]["value"][1].as_str().map(str::to_owned))?
}
