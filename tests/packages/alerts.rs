//! The shipped rules on pages of the machine, in a Prometheus whose time is simulated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::support::{Page, oldest_prometheus, text};

/// The usual interval of scrapes and evaluations, in seconds.
pub const INTERVAL: usize = 15;

/// For how long a page is held before and after what is looked at, in scrapes: ten minutes.
const HELD: usize = 40;

/// One scrape of the machine: when it was made, and the page unless it failed.
#[derive(Clone)]
pub struct Scrape {
    pub time: f64,
    pub page: Option<Page>,
}

impl Scrape {
    /// The same page at another time, with a sample as old as then.
    fn at(&self, time: f64) -> Self {
        let mut moved = Self { time, page: self.page.clone() };
        for sample in moved.page.iter_mut().flat_map(|page| &mut page.samples) {
            if sample.name == "haproxy_host_sample_timestamp_seconds" {
                sample.value += time - self.time;
            }
        }
        moved
    }

    /// The same page at each interval after a time.
    fn held_after(&self, time: f64) -> impl Iterator<Item = Self> {
        (1..=HELD).map(move |number| self.at(time + (number * INTERVAL) as f64))
    }
}

/// Holds a page for ten minutes, in which no alert may fire.
pub fn none_fires(scrape: &Scrape) {
    let histories = [scrape.held_after(scrape.time).collect()];
    evaluate("healthy", &histories, "ALERTS{alertstate=\"firing\"}", "exp_samples: []");
    let one = "exp_samples: [{labels: '{}', value: 1}]";
    evaluate("seen", &histories, "count(haproxy_host_up == 1)", one);
}

/// Whatever second of the usual interval Prometheus scrapes in: the alert that fires goes on, and none else begins. The
/// scrapes are one in a second; the first and the last page are held for ten minutes.
pub fn goes_on(alert: &str, scrapes: &[Scrape]) {
    let (first, last) = (scrapes.first().unwrap(), scrapes.last().unwrap());
    let histories: Vec<Vec<Scrape>> = (0..INTERVAL)
        .map(|phase| {
            let recorded = scrapes.iter().skip(phase).step_by(INTERVAL).cloned();
            let recorded: Vec<Scrape> = recorded.collect();
            let (begins, ends) = (recorded[0].time, recorded[recorded.len() - 1].time);
            let before = first.held_after(begins - ((HELD + 1) * INTERVAL) as f64);
            before.chain(recorded).chain(last.held_after(ends)).collect()
        })
        .collect();
    let firing = "count by (alertname) (ALERTS{alertstate=\"firing\"})";
    let one = format!("exp_samples: [{{labels: '{{alertname={alert:?}}}', value: 1}}]");
    evaluate("upgrade", &histories, firing, &one);
}

/// Asks an expression at each evaluation of the rules after the first five minutes of each history.
fn evaluate(name: &str, histories: &[Vec<Scrape>], expression: &str, expected: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_dir(root.join("alerts")).unwrap();
    let rules = rules.map(|entry| entry.unwrap().path());
    let rules: Vec<String> = rules
        .filter(|path| path.to_str().unwrap().ends_with(".rules.yaml"))
        .map(|path| format!("{:?}", path.display().to_string()))
        .collect();
    assert!(rules.len() > 4, "{rules:?}");
    let mut test =
        format!("rule_files: [{}]\nevaluation_interval: {INTERVAL}s\ntests:\n", rules.join(", "));
    for history in histories {
        writeln!(test, "  - interval: {INTERVAL}s\n    input_series:").unwrap();
        for (series, values) in series_of(history) {
            writeln!(test, "      - {{series: '{series}', values: '{}'}}", values.join(" "))
                .unwrap();
        }
        test.push_str("    promql_expr_test:\n");
        for evaluation in HELD / 2..history.len() {
            let seconds = evaluation * INTERVAL;
            writeln!(test, "      - {{expr: '{expression}', eval_time: {seconds}s, {expected}}}")
                .unwrap();
        }
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.test.yaml"));
    std::fs::write(&file, test).unwrap();
    let output = Command::new(oldest_prometheus("promtool"))
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// All series with a value for each scrape, as `promtool` writes them. The simulated time begins at 0. Where a scrape
/// fails or a page lacks a series, Prometheus marks it as stale.
fn series_of(history: &[Scrape]) -> BTreeMap<String, Vec<String>> {
    let target = "cluster=\"eu1\",job=\"haproxy-host-exporter\",instance=\"lb1\"";
    let beginning = history[0].time;
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let up = history.iter().map(|scrape| u8::from(scrape.page.is_some()).to_string());
    all.insert(format!("up{{{target}}}"), up.collect());
    for (number, scrape) in history.iter().enumerate() {
        for sample in scrape.page.iter().flat_map(|page| &page.samples) {
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let labels = [target.to_owned()].into_iter().chain(labels).collect::<Vec<_>>();
            let series = format!("{}{{{}}}", sample.name, labels.join(","));
            let name = sample.name.as_str();
            let values =
                all.entry(series).or_insert_with(|| vec!["stale".to_owned(); history.len()]);
            values[number] =
                if name.ends_with("_timestamp_seconds") || name.ends_with("mtime_seconds") {
                    format!("{:.3}", sample.value - beginning)
                } else {
                    sample.value.to_string()
                };
        }
    }
    all
}
