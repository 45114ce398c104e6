//! The shipped rules on the page of a host on which nothing is wrong.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::support::{Page, oldest_prometheus, text};

/// Holds a page for an hour in a simulated Prometheus, in which no alert may fire. `now` is when it was taken.
pub fn no_alert_fires(page: &Page, now: f64) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_dir(root.join("alerts")).unwrap();
    let rules = rules.map(|entry| entry.unwrap().path());
    let rules: Vec<String> = rules
        .filter(|path| path.to_str().unwrap().ends_with(".rules.yaml"))
        .map(|path| format!("{:?}", path.display().to_string()))
        .collect();
    assert!(rules.len() > 4, "{rules:?}");
    let target = "cluster=\"eu1\",job=\"haproxy-host-exporter\",instance=\"lb1\"";
    let mut test = format!(
        "rule_files: [{}]\nevaluation_interval: 15s\ntests:\n  - interval: 15s\n    \
         input_series:\n      - {{series: 'up{{{target}}}', values: '1x240'}}\n",
        rules.join(", ")
    );
    for sample in &page.samples {
        let labels: Vec<String> =
            sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let labels = [target.to_owned()].into_iter().chain(labels).collect::<Vec<_>>().join(",");
        // The simulated time begins at 0.
        let values = match sample.name.as_str() {
            "haproxy_host_sample_timestamp_seconds" => "0+15x240".to_owned(),
            name if name.ends_with("_timestamp_seconds") || name.ends_with("mtime_seconds") => {
                format!("{:.3}x240", sample.value - now)
            }
            _ => format!("{}x240", sample.value),
        };
        let name = &sample.name;
        writeln!(test, "      - {{series: '{name}{{{labels}}}', values: '{values}'}}").unwrap();
    }
    test.push_str(
        "    promql_expr_test:\n      - expr: 'ALERTS{alertstate=\"firing\"}'\n        \
         eval_time: 59m\n        exp_samples: []\n      - expr: 'count(haproxy_host_up)'\n        \
         eval_time: 59m\n        exp_samples: [{labels: '{}', value: 1}]\n",
    );
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("healthy.test.yaml");
    std::fs::write(&file, test).unwrap();
    let output = Command::new(oldest_prometheus("promtool"))
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
