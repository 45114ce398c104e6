//! From the exporter's page to the pager: Prometheus with the shipped rules and scrape configuration,
//! Alertmanager with the shipped routing, and a receiver that keeps what was posted to it. All of it as
//! shipped, but [`FACTOR`] times faster and with receivers that can be read.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_yaml::Value as Yaml;

use super::faster::faster;
use super::receiver::{Notice, Notification, TEXT, receive};
use super::support::*;

/// What every duration is divided by: 5 minutes are 7.5 seconds.
pub const FACTOR: u64 = 40;
/// The longest wait for a notification: far above the longest wait of a rule and its route.
const PATIENCE: Duration = Duration::from_secs(100);
/// Where the shipped configuration sends pages; the other receivers are pointed at the same host.
const WEBHOOK: &str = "127.0.0.1:9099";

pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// A time of Prometheus's API in seconds since the epoch.
fn seconds(time: &str) -> f64 {
    let time: jiff::Timestamp = time.parse().unwrap();
    time.as_duration().as_secs_f64()
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

/// The number of chains that run at a time: their clocks run faster than a busy machine can follow.
const MOST_CHAINS: usize = 4;
static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right of a chain to run.
struct Turn;

impl Turn {
    fn wait() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = ENDED
            .wait_while(running, |running| *running >= MOST_CHAINS)
            .unwrap_or_else(PoisonError::into_inner);
        *free += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// Prometheus, Alertmanager and the receiver, in a bed with an exporter.
pub struct Chain<'b> {
    bed: &'b Bed,
    notices: Arc<Mutex<Vec<Notice>>>,
    texts: Arc<Mutex<Vec<Notification>>>,
    _receiver: Server,
    prometheus: Running,
    alertmanager: Running,
    _turn: Turn,
}

impl<'b> Chain<'b> {
    /// Starts it and waits until Prometheus has the exporter's page and Alertmanager is ready.
    #[track_caller]
    pub fn start(bed: &'b Bed, programs: &Programs) -> Self {
        let turn = Turn::wait();
        let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let texts: Arc<Mutex<Vec<Notification>>> = Arc::default();
        let receiver = Server::start(bed, WEBHOOK, {
            let (notices, texts) = (notices.clone(), texts.clone());
            move |stream| {
                receive(stream, &notices, &texts);
            }
        });
        // The target's name, which the machine need not know.
        bed.replace_in_etc("hosts", "127.0.0.1 localhost\n");
        let prometheus = configure_prometheus(bed);
        let alertmanager = configure_alertmanager(bed);
        let chain = Self {
            bed,
            notices,
            texts,
            _turn: turn,
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

    /// Every notification so far, in the words of the shipped templates.
    pub fn texts(&self) -> Vec<Notification> {
        self.texts.lock().unwrap().clone()
    }

    /// The link in a notification opens the runbook of the alert, with no setting made.
    #[track_caller]
    pub fn assert_runbook_opens(&self, notification: &Notification, alert: &str) {
        let link = notification.text.lines().find_map(|line| line.strip_prefix("Runbook: http://"));
        let (address, path) = link.and_then(|link| link.split_once('/')).unwrap_or_default();
        let runbook = self.bed.inside(|| get(address, &format!("/{path}"))).unwrap_or_default();
        assert!(runbook.starts_with(&format!("# {alert}\n")), "{}\n{runbook}", notification.text);
    }

    /// When Prometheus first saw the condition of an alert, in seconds since the epoch, and whether it is
    /// `pending` or `firing`.
    #[track_caller]
    pub fn await_alert(&self, alert: &str) -> (f64, String) {
        await_some(alert, || {
            let answer = self.bed.inside(|| get("127.0.0.1:9090", "/api/v1/alerts"))?;
            let answer: Value = serde_json::from_str(&answer).ok()?;
            let alerts = answer["data"]["alerts"].as_array()?;
            let found = alerts.iter().find(|one| one["labels"]["alertname"] == alert)?;
            Some((seconds(found["activeAt"].as_str()?), found["state"].as_str()?.to_owned()))
        })
    }

    /// Waits until a receiver was notified that an alert of this name has this status.
    #[track_caller]
    pub fn await_notice(&self, status: &str, alert: &str) -> Notice {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let notices = self.notices.lock().unwrap().clone();
            if let Some(found) =
                notices.iter().find(|notice| notice.status == status && notice.name() == alert)
            {
                return found.clone();
            }
            assert!(
                Instant::now() < deadline,
                "no receiver was notified that {alert} is {status}; notices:\n{notices:#?}\n{}\n{}\n{}",
                self.bed.inside(|| get("127.0.0.1:9090", "/api/v1/alerts")).unwrap_or_default(),
                self.prometheus.log(),
                self.alertmanager.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// These are all the notices that receivers got since the start, as `receiver status alert`, in any
    /// order.
    #[track_caller]
    pub fn assert_notices(&self, wanted: &[&str]) {
        let notices = self.notices.lock().unwrap();
        let found: BTreeSet<String> = notices
            .iter()
            .map(|notice| format!("{} {} {}", notice.receiver, notice.status, notice.name()))
            .collect();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, wanted, "{notices:#?}");
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
    // Only receivers differ, and of them only where they send.
    let (mut left, mut right) = (yaml(&fast), yaml(&text));
    for config in [&mut left, &mut right] {
        for receiver in config["receivers"].as_sequence_mut().unwrap() {
            let sends_resolved = the_one(receiver)["send_resolved"].clone();
            *receiver = Yaml::Sequence(vec![receiver["name"].clone(), sends_resolved]);
        }
    }
    assert_eq!(left, right);
    right = yaml(&text);
    for receiver in right["receivers"].as_sequence_mut().unwrap() {
        let name = receiver["name"].as_str().unwrap().to_owned();
        receiver["slack_configs"] = in_words(&yaml(&fast), &name);
    }
    let config = directory.join("alertmanager.yaml");
    fs::write(&config, serde_yaml::to_string(&right).unwrap()).unwrap();
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

/// The shipped chat, with its templates, posted to a path of its own for a receiver.
fn in_words(shipped: &Yaml, receiver: &str) -> Yaml {
    let receivers = shipped["receivers"].as_sequence().unwrap();
    let chat = receivers.iter().find(|one| one.get("slack_configs").is_some()).unwrap();
    let mut chat = chat["slack_configs"].clone();
    chat[0]["api_url"] = yaml(&format!("http://{WEBHOOK}/{TEXT}{receiver}"));
    chat
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
