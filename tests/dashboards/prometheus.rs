//! A real Prometheus in a bed of its own, with doors to the exporters in the others.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::board::{Times, read, root};
use crate::support::*;

/// The first port at which the exporters of the other beds answer in this one.
const FIRST_PORT: u16 = 20_000;

pub struct Prometheus {
    _running: Running,
    /// The doors by the instance whose exporter answers behind them.
    doors: Vec<(String, Door)>,
    bed: Bed,
}

impl Prometheus {
    /// Starts it on exporters by instance, and on `silent` instances, whose exporter does not answer. The
    /// shipped alerts are evaluated, and fire at once if `hasty`.
    pub fn start(exporters: &[(&str, &Bed)], silent: &[&str], hasty: bool) -> Self {
        let bed = Bed::new();
        let mut doors = Vec::new();
        let mut targets = String::new();
        for (port, (instance, host)) in (FIRST_PORT..).zip(exporters) {
            doors.push(((*instance).to_owned(), Door::open(&bed, port, host)));
            writeln!(targets, "      - {{targets: ['127.0.0.1:{port}'], labels: {{instance: {instance}, cluster: eu1}}}}").unwrap();
        }
        for instance in silent {
            writeln!(targets, "      - {{targets: ['127.0.0.1:9'], labels: {{instance: {instance}, cluster: eu1}}}}").unwrap();
        }
        for path in std::fs::read_dir(root().join("alerts")).into_iter().flatten().flatten() {
            let name = path.file_name().to_string_lossy().into_owned();
            if name.ends_with(".rules.yaml") {
                let lines = read(&path.path())
                    .lines()
                    .map(|line| match line.split_once("for: ") {
                        Some((indent, _)) if hasty && indent.trim().is_empty() => {
                            format!("{indent}for: 0s")
                        }
                        _ => line.to_owned(),
                    })
                    .collect::<Vec<_>>();
                bed.write(&name, &(lines.join("\n") + "\n"));
            }
        }
        let config = bed.write(
            "prometheus.yml",
            &format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['*.rules.yaml']\n\
             scrape_configs:\n  - job_name: haproxy-host-exporter\n    static_configs:\n{targets}",
            ),
        );
        let mut command = bed.command(oldest_prometheus("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", bed.directory().join("tsdb").display()))
            .arg("--web.listen-address=127.0.0.1:9090");
        let running = bed.start(command, "prometheus.log");
        let prometheus = Self { _running: running, doors, bed };
        await_true("Prometheus to be ready", || prometheus.get("/-/ready").is_some());
        prometheus
    }

    /// The result of a query at one moment: series with labels and a value.
    #[track_caller]
    pub fn instant(&self, expr: &str, time: u64) -> Value {
        self.data(&format!("/api/v1/query?query={}&time={time}", encode(expr)), expr)["result"]
            .clone()
    }

    /// The result of a query over a range.
    #[track_caller]
    pub fn range(&self, expr: &str, times: &Times) -> Value {
        let Times { start, end, step, .. } = times;
        let query = encode(expr);
        let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step}");
        self.data(&path, expr)["result"].clone()
    }

    /// Values of a label over the series of a selector.
    #[track_caller]
    pub fn label_values(&self, selector: &str, label: &str, times: &Times) -> Vec<String> {
        let Times { start, end, .. } = times;
        let matching = encode(selector);
        let path =
            format!("/api/v1/label/{label}/values?match[]={matching}&start={start}&end={end}");
        let data = self.data(&path, selector);
        data.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn data(&self, path: &str, what: &str) -> Value {
        let (_, body) = self.get_any(path).unwrap_or_else(|| panic!("no answer to {what}"));
        let json: Value = serde_json::from_str(&body).unwrap_or_else(|why| panic!("{why}: {body}"));
        assert_eq!(json["status"], "success", "{what}\n{body}");
        assert!(json["warnings"].is_null(), "{what}\n{}", json["warnings"]);
        json["data"].clone()
    }

    /// What the exporter of an instance answers with status 200.
    #[track_caller]
    pub fn exporter_answer(&self, instance: &str, path: &str) -> String {
        let mut ports = (FIRST_PORT..).zip(&self.doors);
        let (port, _) = ports.find(|(_, (name, _))| name == instance).unwrap();
        let (head, body) = self.get_at(port, path).unwrap();
        assert!(head.contains(" 200 "), "{path}: {head}");
        body
    }

    fn get(&self, path: &str) -> Option<String> {
        let (head, body) = self.get_any(path)?;
        head.contains(" 200 ").then_some(body)
    }

    fn get_any(&self, path: &str) -> Option<(String, String)> {
        self.get_at(9090, path)
    }

    fn get_at(&self, port: u16, path: &str) -> Option<(String, String)> {
        let mut stream = self.bed.inside(|| TcpStream::connect(("127.0.0.1", port))).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_owned(), body.to_owned()))
    }
}

fn encode(text: &str) -> String {
    let mut result = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            result.push(char::from(byte));
        } else {
            write!(result, "%{byte:02X}").unwrap();
        }
    }
    result
}

/// A port of one bed behind which the exporter of another answers.
struct Door {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    fn open(from: &Bed, port: u16, to: &Bed) -> Self {
        let listener = from.inside(|| TcpListener::bind(("127.0.0.1", port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let enter = to.door();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                enter();
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((client, _)) => drop(pass(&client)),
                        Err(_) => std::thread::sleep(Duration::from_millis(20)),
                    }
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Carries one connection to the exporter, on threads of its own.
fn pass(client: &TcpStream) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect("127.0.0.1:10101")?;
    for (mut from, mut to) in
        [(client.try_clone()?, server.try_clone()?), (server.try_clone()?, client.try_clone()?)]
    {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
