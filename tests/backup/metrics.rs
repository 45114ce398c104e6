//! What the metrics say of backups.

use std::fs;

use crate::site::Site;
use crate::support::*;

#[test]
fn the_metrics_say_whether_what_runs_is_kept() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    fs::create_dir(&site.store).unwrap();
    let yaml = format!("backup: {{directory: {}}}\n", site.store.display());
    let exporter = Exporter::configured(&bed, &yaml);
    let page = || exporter.get("/metrics").unwrap().body;
    let shows = |line: &str| {
        await_true(line, || page().contains(&format!("haproxy_host_backup_{line}")));
    };
    shows("config_differs{haproxy=\"haproxy\"} 1");
    let name = site.create(&[]);
    shows("last_success_timestamp_seconds{haproxy=\"haproxy\"}");
    assert!(
        page().contains("haproxy_host_backup_config_differs{haproxy=\"haproxy\"} 1"),
        "not verified yet"
    );
    assert!(!page().contains("haproxy_host_backup_last_verified_timestamp_seconds{"));
    site.backup(&["verify", &name], 0, &[]);
    shows("config_differs{haproxy=\"haproxy\"} 0");
    shows("last_verified_timestamp_seconds{haproxy=\"haproxy\"}");
    fs::write(site.file("hosts.map"), "changed\n").unwrap();
    shows("config_differs{haproxy=\"haproxy\"} 1");
}

#[test]
fn without_a_directory_nothing_is_said() {
    let bed = Bed::new();
    let _site = Site::new(&bed, Version::V3_2);
    let exporter = Exporter::start(&bed);
    assert!(!exporter.get("/metrics").unwrap().body.contains("haproxy_host_backup_"));
}
