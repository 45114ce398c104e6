//! `inspect --output prometheus`, and the command of docs/textfile.md, as node_exporter and promtool meet them.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use support::*;

/// The metrics of a page, by their `# TYPE` lines.
fn metrics(page: &str) -> BTreeSet<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next())
        .collect()
}

/// What the exporter has on its page and a single look has not.
fn only_while_watching(metric: &str) -> bool {
    metric.starts_with("process_")
        || metric.starts_with("haproxy_host_exporter_config_")
        || metric == "haproxy_host_anomalies_observed_total"
}

fn service(bed: &Bed) -> Service<'_> {
    let service = Service::new(bed, Version::V2_6, Manner::Daemon);
    let old = service.configure(&proxies::listeners(&[8011])).start();
    // It is left behind, and still listens.
    scenes::leave_behind(bed, &service, old, &["-sf", "99999"]);
    service
}

#[test]
fn one_look_has_the_exporter_s_metrics_and_promtool_accepts_them() {
    let bed = Bed::new();
    let _service = service(&bed);
    let exporter = Exporter::start(&bed);
    exporter.await_page("the anomaly", |page| {
        page.is("haproxy_host_anomalies", &[("kind", "port_split")], 1.0)
    });
    let served = exporter.get("/metrics").unwrap().body;
    let file = bed.write("look.yaml", "defaults: {stale_grace: 1s}\n").display().to_string();
    let look = || {
        let output =
            Exporter::command(&bed, &["inspect", "--output", "prometheus", "--config.file", &file]);
        // Anomalies do not make it fail: the command would not rename the file.
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout)
    };
    let anomaly = "haproxy_host_anomalies{haproxy=\"haproxy\",kind=\"port_split\"} 1";
    let page = await_some("the anomaly in one look", || {
        Some(look()).filter(|page| page.contains(anomaly))
    });
    let wanted: BTreeSet<&str> =
        metrics(&served).into_iter().filter(|metric| !only_while_watching(metric)).collect();
    assert_eq!(metrics(&page), wanted);
    assert!(wanted.contains("haproxy_host_sample_timestamp_seconds"), "the page knows its age");

    for version in ["2.42", "stable", "newest"] {
        let promtool = installed(&format!("prometheus/{version}/promtool"));
        let input = fs::File::open(bed.write("page.prom", &page)).unwrap();
        let mut check = bed.command(promtool);
        let output = check.args(["check", "metrics"]).stdin(Stdio::from(input)).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{version}: {said}");
    }
}

#[test]
fn a_part_of_the_host_is_refused() {
    let bed = Bed::new();
    for flags in [&["--haproxy", "a"][..], &["--port", "80"], &["--watch"]] {
        let output =
            Exporter::command(&bed, &[&["inspect", "--output", "prometheus"], flags].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("leave out {}", flags[0])), "{said}");
    }
}

#[test]
fn the_command_of_the_page_replaces_the_file_in_one_step() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/textfile.md")).unwrap();
    let block = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = "/var/lib/prometheus/node-exporter";
    assert!(block.contains(folder), "{block}");
    let bed = Bed::new();
    let _service = service(&bed);
    let here = bed.directory().join("textfiles");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("haproxy-host.prom"), "old\n").unwrap();
    let programs = Exporter::binary().parent().unwrap().display().to_string();
    let command = block.replace(folder, &here.display().to_string());
    bed.shell(&format!("PATH={programs}:$PATH; {command}"));
    let files = || -> Vec<String> {
        let entries = fs::read_dir(&here).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(files(), ["haproxy-host.prom"]);
    let written = || fs::read_to_string(here.join("haproxy-host.prom")).unwrap();
    let page = written();
    assert!(page.contains("\nhaproxy_host_haproxys 1\n"), "{page}");

    // A run that fails leaves the last page, and nothing else.
    let mut failing = bed.command("sh");
    failing.args(["-c", &command]).env("HAPROXY_HOST_EXPORTER_CONFIG_FILE", "/nowhere.yaml");
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let output = failing.env("PATH", path).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!((files(), written()), (vec!["haproxy-host.prom".to_owned()], page));
}
