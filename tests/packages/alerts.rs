//! The shipped rules on pages of the machine, in a Prometheus whose time is simulated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::support::{Page, oldest_prometheus, text};

/// The usual interval of scrapes and evaluations, in seconds.
pub const INTERVAL: usize = 15;

/// For how long a page is held before or after what is looked at, in scrapes: ten minutes.
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

/// No alert fires while successive pages are scraped at the usual interval, from the first on, nor while the last one is
/// held for another ten minutes. At the end so many HAProxys serve.
pub fn none_fires(name: &str, scrapes: &[Scrape], serving: usize) {
    let scrapes = stretched(scrapes);
    assert!(scrapes.len() >= HELD, "{} pages are less than ten minutes", scrapes.len());
    let last = scrapes[scrapes.len() - 1].clone();
    let history: Vec<Scrape> = scrapes.into_iter().chain(last.held_after(last.time)).collect();
    let end = history.len() - 1;
    let histories = [history];
    evaluate(name, &histories, 0, "ALERTS{alertstate=\"firing\"}", "exp_samples: []");
    let all = format!("exp_samples: [{{labels: '{{}}', value: {serving}}}]");
    evaluate(name, &histories, end, "count(haproxy_host_up == 1)", &all);
}

/// Successive scrapes as if the usual interval lay between them. A time on a page keeps its place between the scrapes.
fn stretched(scrapes: &[Scrape]) -> Vec<Scrape> {
    let begin = scrapes[0].time;
    let moved = |number: usize| begin + (number * INTERVAL) as f64;
    let stretch = |time: f64| {
        let number = scrapes.iter().take_while(|scrape| scrape.time <= time).count();
        match (number.checked_sub(1), scrapes.get(number)) {
            (None, _) => time,
            (Some(before), None) => moved(before) + time - scrapes[before].time,
            (Some(before), Some(after)) => {
                let real = after.time - scrapes[before].time;
                moved(before) + (time - scrapes[before].time) / real * INTERVAL as f64
            }
        }
    };
    let mut all = scrapes.to_vec();
    for (number, scrape) in all.iter_mut().enumerate() {
        scrape.time = moved(number);
        for sample in scrape.page.iter_mut().flat_map(|page| &mut page.samples) {
            if is_time(&sample.name) {
                sample.value = stretch(sample.value);
            }
        }
    }
    all
}

/// Whether the values of a metric are times in seconds since 1970.
fn is_time(name: &str) -> bool {
    ["_timestamp_seconds", "mtime_seconds", "_start_time_seconds"]
        .iter()
        .any(|ending| name.ends_with(ending))
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
    evaluate("upgrade", &histories, HELD / 2, firing, &one);
}

/// Asks an expression at each evaluation of the rules in each history, from one of them on.
fn evaluate(name: &str, histories: &[Vec<Scrape>], from: usize, expression: &str, expected: &str) {
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
        for evaluation in from..history.len() {
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
            values[number] = if is_time(name) {
                format!("{:.3}", sample.value - beginning)
            } else {
                sample.value.to_string()
            };
        }
    }
    all
}
