//! From the exporter's page to somebody's pager: Prometheus with the shipped rules and scrape
//! configuration, Alertmanager with the shipped routing, and a receiver that keeps what it was told.
//! All of it as shipped, but [`FACTOR`] times faster and with receivers that can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_yaml::Value as Yaml;

use super::faster::faster;
use super::support::*;

/// What every duration is divided by: 5 minutes are 7.5 seconds.
const FACTOR: u64 = 40;
/// Longest a notification is waited for: far above the longest wait of a rule and its route.
const PATIENCE: Duration = Duration::from_secs(100);
/// Where the shipped configuration sends pages; the other receivers are pointed at the same host.
const WEBHOOK: &str = "127.0.0.1:9099";

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn yaml(text: &str) -> Yaml {
    serde_yaml::from_str(text).unwrap()
}

/// Programs of one time.
pub struct Programs {
    prometheus: PathBuf,
    alertmanager: PathBuf,
    pub haproxy: Version,
}

impl Programs {
    /// The oldest that the shipped rules and configurations are written for.
    pub fn oldest() -> Self {
        Self {
            prometheus: oldest_prometheus("prometheus"),
            alertmanager: installed("alertmanager/0.25/prometheus-alertmanager"),
            haproxy: Version::V2_6,
        }
    }

    /// The newest in tests/versions.
    pub fn newest() -> Self {
        Self {
            prometheus: installed("prometheus/newest/prometheus"),
            alertmanager: installed("alertmanager/newest/prometheus-alertmanager"),
            haproxy: Version::V3_4,
        }
    }
}

/// One alert as somebody was told of it.
#[derive(Debug, Clone)]
pub struct Told {
    /// Which receiver was told.
    pub receiver: String,
    /// `firing` or `resolved`.
    pub status: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

impl Told {
    pub fn name(&self) -> &str {
        &self.labels["alertname"]
    }

    fn from(receiver: &str, alert: &Value) -> Self {
        let map = |key: &str| serde_json::from_value(alert[key].clone()).unwrap();
        Self {
            receiver: receiver.to_owned(),
            status: alert["status"].as_str().unwrap().to_owned(),
            labels: map("labels"),
            annotations: map("annotations"),
        }
    }

    /// The labels are these and those every alert has.
    #[track_caller]
    pub fn assert_labels(&self, own: &[(&str, &str)]) {
        let every =
            [("cluster", "eu1"), ("instance", "localhost"), ("job", "haproxy-host-exporter")];
        let wanted: BTreeMap<&str, &str> = every.iter().chain(own).copied().collect();
        let found: BTreeMap<&str, &str> = self
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| *name != "alertname")
            .collect();
        assert_eq!(found, wanted, "{}", self.name());
    }

    /// The four annotations: those of its rule, filled in, with links that lead to its runbook and
    /// to the host.
    #[track_caller]
    pub fn assert_annotations(&self, dashboard: &str, description: &[&str]) {
        let name = self.name();
        let names: Vec<&str> = self.annotations.keys().map(String::as_str).collect();
        assert_eq!(names, ["dashboard_url", "description", "runbook_url", "summary"], "{name}");
        let runbook = format!("alerts/runbooks/{name}.md");
        assert!(self.annotations["runbook_url"].ends_with(&runbook), "{name}");
        assert!(shipped(&runbook).exists(), "{runbook}");
        assert_eq!(self.annotations["dashboard_url"], dashboard, "{name}");
        for text in self.annotations.values() {
            for leftover in ["{{", "<no value>", "<error", "%!"] {
                assert!(!text.contains(leftover), "{name}: {leftover} in {text}");
            }
        }
        for part in description {
            let text = &self.annotations["description"];
            assert!(text.contains(part), "{name}: {part:?} is not in\n{text}");
        }
    }
}

/// Prometheus, Alertmanager and the receiver, in a bed with an exporter.
pub struct Chain<'b> {
    bed: &'b Bed,
    told: Arc<Mutex<Vec<Told>>>,
    _receiver: Server,
    prometheus: Running,
    alertmanager: Running,
}

impl<'b> Chain<'b> {
    /// Starts it and waits until Prometheus has the exporter's page and Alertmanager is ready.
    #[track_caller]
    pub fn start(bed: &'b Bed, programs: &Programs) -> Self {
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let receiver = Server::start(bed, WEBHOOK, {
            let told = told.clone();
            move |stream| {
                receive(stream, &told);
            }
        });
        let prometheus = configure_prometheus(bed);
        let alertmanager = configure_alertmanager(bed);
        let chain = Self {
            bed,
            told,
            _receiver: receiver,
            alertmanager: start(bed, &programs.alertmanager, &alertmanager, "9093", |command| {
                command.args(["--cluster.listen-address=", "--storage.path"])
            }),
            prometheus: start(bed, &programs.prometheus, &prometheus, "9090", |command| {
                command.arg("--storage.tsdb.path")
            }),
        };
        await_true("Alertmanager", || bed.inside(|| get("127.0.0.1:9093", "/-/ready")).is_some());
        await_some("Prometheus to scrape the exporter", || {
            let query =
                "/api/v1/query?query=haproxy_host_sample_timestamp_seconds%20and%20on(job)%20up";
            let answer = bed.inside(|| get("127.0.0.1:9090", query))?;
            answer.contains("\"instance\":\"localhost\"").then_some(())
        });
        chain
    }

    /// Waits until somebody was told this of an alert of this name.
    #[track_caller]
    pub fn await_told(&self, status: &str, alert: &str) -> Told {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told.lock().unwrap().clone();
            if let Some(found) =
                told.iter().find(|told| told.status == status && told.name() == alert)
            {
                return found.clone();
            }
            assert!(
                Instant::now() < deadline,
                "nobody was told that {alert} is {status}; told:\n{told:#?}\n{}\n{}\n{}",
                self.bed.inside(|| get("127.0.0.1:9090", "/api/v1/alerts")).unwrap_or_default(),
                self.prometheus.log(),
                self.alertmanager.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// This is everything anybody was told since the start, as `receiver status alert`, in any order.
    #[track_caller]
    pub fn assert_told(&self, wanted: &[&str]) {
        let told = self.told.lock().unwrap();
        let found: BTreeSet<String> = told
            .iter()
            .map(|told| format!("{} {} {}", told.receiver, told.status, told.name()))
            .collect();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, wanted, "{told:#?}");
    }
}

/// Starts one of the two, with its data beside its configuration.
fn start(
    bed: &Bed,
    binary: &Path,
    config: &Path,
    port: &str,
    up_to_data: impl FnOnce(&mut Command) -> &mut Command,
) -> Running {
    let mut command = bed.command(binary);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    up_to_data(&mut command).arg(config.with_file_name("data"));
    bed.start(command, &format!("{port}.log"))
}

/// The body of an answer with status 200.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

/// Takes one notification: Alertmanager's JSON, posted to a path that says which receiver it is for.
fn receive(stream: TcpStream, told: &Mutex<Vec<Told>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let receiver = line.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let json: Value = serde_json::from_slice(&body).ok()?;
    let alerts = json["alerts"].as_array()?.iter().map(|alert| Told::from(&receiver, alert));
    told.lock().unwrap().extend(alerts);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.get_mut().write_all(answer).ok()
}

/// `deploy/prometheus` with the rules of `alerts/` where it looks for them, and the host of this bed as
/// its one target.
fn configure_prometheus(bed: &Bed) -> PathBuf {
    let directory = bed.directory().join("prometheus");
    let rules = directory.join("rules/haproxy-host");
    fs::create_dir_all(&rules).unwrap();
    fs::create_dir(directory.join("targets")).unwrap();
    for (name, text) in faster_rules() {
        fs::write(rules.join(name), text).unwrap();
    }
    let target = "- targets: [localhost]\n  labels: {cluster: eu1}\n";
    fs::write(directory.join("targets/haproxy-host-test.yaml"), target).unwrap();
    let shipped = read(&shipped("deploy/prometheus/prometheus.yaml"));
    let fast = faster(&shipped, FACTOR);
    // One duration is not divided but left out, so that it is the interval: how long a scrape takes
    // does not depend on how often it is made.
    let timeout = "    scrape_timeout: 5s\n";
    assert_eq!(fast.matches(timeout).count(), 1);
    let config = directory.join("prometheus.yaml");
    fs::write(&config, fast.replace(timeout, "")).unwrap();
    config
}

/// The shipped rule files by name, faster.
fn faster_rules() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(shipped("alerts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".rules.yaml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, faster(&read(&path), FACTOR))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no rules");
    files
}

/// `deploy/alertmanager`, with the receivers for mail and chat pointed at the webhook's host.
fn configure_alertmanager(bed: &Bed) -> PathBuf {
    let directory = bed.directory().join("alertmanager");
    fs::create_dir(&directory).unwrap();
    fs::copy(shipped("deploy/alertmanager/haproxy.tmpl"), directory.join("haproxy.tmpl")).unwrap();
    let fast = faster(&read(&shipped("deploy/alertmanager/alertmanager.yaml")), FACTOR);
    let text = serde_yaml::to_string(&readable(&yaml(&fast))).unwrap();
    // Nothing but receivers differs, and of them nothing but where they send.
    let (mut left, mut right) = (yaml(&fast), yaml(&text));
    for config in [&mut left, &mut right] {
        for receiver in config["receivers"].as_sequence_mut().unwrap() {
            let sends_resolved = the_one(receiver)["send_resolved"].clone();
            *receiver = Yaml::Sequence(vec![receiver["name"].clone(), sends_resolved]);
        }
    }
    assert_eq!(left, right);
    let config = directory.join("alertmanager.yaml");
    fs::write(&config, text).unwrap();
    config
}

/// The one integration of a receiver.
fn the_one(receiver: &Yaml) -> &Yaml {
    let configs: Vec<&Yaml> = receiver
        .as_mapping()
        .unwrap()
        .iter()
        .filter(|(key, _)| key.as_str().is_some_and(|key| key.ends_with("_configs")))
        .flat_map(|(_, configs)| configs.as_sequence().unwrap())
        .collect();
    assert_eq!(configs.len(), 1, "{receiver:?}");
    configs[0]
}

/// A configuration of Alertmanager whose receivers all post JSON to [`WEBHOOK`]; one that does so
/// already stays as it is.
fn readable(config: &Yaml) -> Yaml {
    let mut config = config.clone();
    for receiver in config["receivers"].as_sequence_mut().unwrap() {
        if receiver.get("webhook_configs").is_some() {
            continue;
        }
        let sends_resolved = the_one(receiver)["send_resolved"].as_bool().unwrap();
        let name = receiver["name"].as_str().unwrap();
        *receiver = yaml(&format!(
            "{{name: {name}, webhook_configs: [{{url: 'http://{WEBHOOK}/{name}', send_resolved: {sends_resolved}}}]}}"
        ));
    }
    config
}

/// Durations of rules by rule and key, for a count that does not rest on the code under test.
fn durations(rules: &str) -> usize {
    yaml(rules)["groups"]
        .as_sequence()
        .expect("groups")
        .iter()
        .flat_map(|group| group["rules"].as_sequence().expect("rules"))
        .map(|rule| {
            let waits = ["for", "keep_firing_for"].iter().filter(|key| rule.get(**key).is_some());
            let annotations = rule["annotations"].as_mapping().into_iter().flatten();
            let texts =
                annotations.filter_map(|(_, text)| text.as_str()).chain(rule["expr"].as_str());
            waits.count() + texts.map(ranges).sum::<usize>()
        })
        .sum()
}

/// The durations in the ranges of an expression: `[5m]` has one, `[1d:5m]` two.
fn ranges(text: &str) -> usize {
    let ranges = text.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    let durations = ranges.flat_map(|(range, _)| range.split(':'));
    durations.filter(|part| part.starts_with(|letter: char| letter.is_ascii_digit())).count()
}

#[test]
fn the_shipped_rules_run_faster_and_are_otherwise_the_same() {
    let bed = Bed::new();
    for (name, fast) in faster_rules() {
        let slow = read(&shipped(&format!("alerts/{name}")));
        let changed: usize = slow
            .lines()
            .zip(fast.lines())
            .map(|(slow, fast)| fast.matches("ms").count() - slow.matches("ms").count())
            .sum();
        assert_eq!(changed, durations(&slow), "{name}");
        let path = bed.write(&name, &fast);
        let checked =
            bed.run(oldest_prometheus("promtool"), &["check", "rules", &path.to_string_lossy()]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
    }
}
