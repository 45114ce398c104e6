//! The fleet the boards are tried on: a host where all is well, the founding incident, a stranded
//! worker, a host without `HAProxy`, and one that does not answer.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::board::Times;
use super::prometheus::Prometheus;
use crate::support::*;

/// All is well here.
pub const HEALTHY: &str = "lb1";
/// The founding incident: old processes pile up, one of them holds port 59044, and a new service asks for it.
pub const FOUNDING: &str = "lb2";
/// A worker that does not receive its signal goes on serving a port that is no longer declared.
pub const STRANDED: &str = "lb3";
/// No `HAProxy` here.
pub const EMPTY: &str = "lb4";
/// No exporter answers here.
pub const SILENT: &str = "lb5";

/// How many old processes pile up, and the threshold they exceed.
pub const OLD_PROCESSES: u32 = 7;
pub const THRESHOLD: u32 = 5;

/// Every fleet here uses the version that most distributions had last.
const VERSION: Version = Version::V3_0;

/// What is to happen slowly for a picture.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Between two events.
    pub pause: Duration,
    /// Alerts fire at once.
    pub hasty: bool,
}

pub struct Fleet {
    pub prometheus: Prometheus,
    start: u64,
}

fn service_of(proxies: &str) -> String {
    format!(
        "listen echo\n    mode tcp\n    bind 127.0.0.1:8002\n    option tcplog\n    log global\n    server echo 127.0.0.1:9000\n{proxies}"
    )
}

fn listeners(ports: &[u16]) -> String {
    let binds: Vec<String> =
        ports.iter().map(|port| format!("    bind 127.0.0.1:{port}\n")).collect();
    let binds = binds.concat();
    format!("\nlisten services\n    mode tcp\n    server nobody 127.0.0.1:9\n{binds}")
}

/// The exporter's configuration of a host with one `HAProxy`.
fn policy(name: &str, service: &Service<'_>) -> String {
    format!(
        "defaults: {{stale_grace: 1s, reap: {{}}}}\nhaproxys:\n  - name: {name}\n    match: {{pidfile: {}}}\n    \
         allowed_ports: [\"8000-8999\", \"20000-20999\", \"59000-59999\"]\n    \
         thresholds: {{stale_processes: {THRESHOLD}}}\n",
        service.pidfile().display()
    )
}

/// The state file of a reaper that watches a host and signals nothing, in a directory like those below /run.
struct ReapState<'b> {
    bed: &'b Bed,
    place: PathBuf,
    file: PathBuf,
}

impl<'b> ReapState<'b> {
    fn new(bed: &'b Bed) -> Self {
        let place = PathBuf::from(bed.shell("mktemp -d -p /run reap.XXXXXX").trim());
        Self { bed, file: place.join("state/reap.json"), place }
    }

    fn watch(&self, policy: &str) -> Running {
        let policy = self.bed.write("reap.yaml", policy);
        let mut command = self.bed.command(Exporter::binary());
        command.args(["reap", "--watch", "--sample.interval", SAMPLE_INTERVAL]);
        command.arg("--reap.state-file").arg(&self.file).arg("--config.file").arg(policy);
        self.bed.start(command, "reap.log")
    }
}

impl Drop for ReapState<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// Stages the fleet, lets it all happen, and hands it to `work` while it still runs.
pub fn with_fleet(pace: Pace, work: impl FnOnce(&Fleet)) {
    let beds: Vec<Bed> = (0..4).map(|_| Bed::new()).collect();
    let [healthy, founding, stranded, empty] = &beds[..] else { unreachable!() };
    founding.sysctl("ipv4/ip_local_port_range", "50000 58999");
    let _echoes = [healthy, founding, stranded].map(|bed| EchoServer::start(bed, "127.0.0.1:9000"));

    let well = Service::new(healthy, VERSION, Manner::Master);
    well.configure(&service_of(&listeners(&[8080, 8443]))).start();
    let mut agent = Service::new(founding, VERSION, Manner::DaemonTransfer);
    let directory = agent.path("").display().to_string();
    let pidfile = agent.pidfile().display().to_string();
    agent.arguments =
        ["-p", &pidfile, "-C", &directory, "-f", &directory].map(str::to_owned).to_vec();
    let log = "    log 127.0.0.1:514 local0\n";
    agent.configure_with(log, &service_of(&listeners(&[20_001, 20_002])));
    agent.start();
    let edge = Service::new(stranded, VERSION, Manner::Master);
    edge.configure(&service_of(&listeners(&[8001, 8443]))).start();

    let state = ReapState::new(healthy);
    let mut command = healthy.command(Exporter::binary());
    command.arg("--reap.state-file").arg(&state.file);
    let web = policy("web", &well);
    let exporters = [
        Exporter::launched(healthy, command, &web),
        Exporter::configured(founding, &policy("lbagent", &agent)),
        Exporter::configured(stranded, &policy("edge", &edge)),
        Exporter::start(empty),
    ];
    let hosts = [(HEALTHY, healthy), (FOUNDING, founding), (STRANDED, stranded), (EMPTY, empty)];
    let start = now();
    let _reaper = state.watch(&web);
    let prometheus = Prometheus::start(&hosts, &[SILENT], pace.hasty);
    let fleet = Fleet { prometheus, start };
    for (instance, _) in hosts {
        fleet.await_value(&format!(
            "haproxy_host_sample_timestamp_seconds{{instance=\"{instance}\"}} > 0"
        ));
    }
    let wait = || std::thread::sleep(pace.pause);
    wait();

    // All is well: a reload, and the old worker goes once its client does.
    let client = Flow::echoing(healthy, "127.0.0.1:8002");
    well.reload();
    wait();
    drop(client);
    wait();

    // The founding incident. Each reload leaves a process behind a connection that lasts.
    let mut held = Vec::new();
    for old in 1..=OLD_PROCESSES {
        drop(Flow::echoing(founding, "127.0.0.1:8002")); // its end is logged: the log socket opens
        if old == 3 {
            held.push(through_source_port(founding, agent.serving(), 59_044));
        }
        held.push(Flow::echoing(founding, "127.0.0.1:8002"));
        if old == 5 {
            // A service in the ephemeral range: fine while it runs.
            agent.configure_with(log, &service_of(&listeners(&[20_001, 20_002, 59_050])));
        }
        agent.reload();
        wait();
    }
    founding.sysctl("ipv4/ip_local_port_range", "50000 59999"); // and both ports lie in it
    exporters[1].await_page("the pile", |page| page.stale("draining") == f64::from(OLD_PROCESSES));
    // A new service asks for 59044, which the third process has as the source port of a connection.
    agent.configure_with(log, &service_of(&listeners(&[20_001, 20_002, 59_050, 59_044])));
    let refused = agent.try_reload();
    assert!(!refused.status.success(), "59044 is not free, and yet HAProxy took it");
    assert!(text(&refused.stderr).contains("59044"), "{}", text(&refused.stderr));
    wait();

    // A worker is stopped while it is replaced, and keeps its listeners.
    let worker = edge.serving();
    stranded.kill("STOP", worker);
    edge.configure(&service_of(&listeners(&[8443])));
    edge.signal_reload();
    exporters[2]
        .await_page("the stale listener", |page| page.anomalies().contains("port_stale_listener"));
    wait();

    fleet.await_value(&format!(
        "haproxy_host_anomalies{{instance=\"{STRANDED}\",kind=\"port_stale_listener\"}} > 0"
    ));
    fleet.await_value(&format!(
        "haproxy_host_anomalies{{instance=\"{FOUNDING}\",kind=\"port_blocked\"}} > 0"
    ));
    fleet.await_value(&format!(
        "sum(haproxy_host_stale_processes{{instance=\"{FOUNDING}\"}}) >= {OLD_PROCESSES}"
    ));
    fleet.await_value(&format!(
        "haproxy_host_stale_processes{{instance=\"{HEALTHY}\",state=\"draining\"}} == 0"
    ));
    // Rates need a few scrapes.
    std::thread::sleep(Duration::from_secs(3));
    work(&fleet);
    drop(held);
    stranded.kill("CONT", worker);
}

/// A connection that the process `server` carries on from this very source port.
fn through_source_port(bed: &Bed, server: i32, port: u16) -> Flow {
    // The client must not take the port itself: it connects while the range is still another, and the
    // server, which is stopped, comes to it when the port is all there is.
    bed.kill("STOP", server);
    let mut flow = Flow::open(bed, "127.0.0.1:8002");
    bed.sysctl("ipv4/ip_local_port_range", &format!("{port} {port}"));
    bed.kill("CONT", server);
    flow.prove();
    bed.sysctl("ipv4/ip_local_port_range", "50000 58999");
    let sockets = bed.shell("ss -Htn");
    assert!(sockets.contains(&format!("127.0.0.1:{port}")), "{sockets}");
    flow
}

impl Fleet {
    /// The range from the start until now, in steps for about as many points as a panel has.
    pub fn times(&self) -> Times {
        let end = now();
        let step = ((end - self.start) / 400).max(1);
        // max($__interval + scrape interval, 4 * scrape interval), as Grafana has it.
        Times { start: self.start, end, step, rate_interval: (step + 1).max(4) }
    }

    #[track_caller]
    fn await_value(&self, expr: &str) {
        await_true(expr, || {
            self.prometheus.instant(expr, now()).as_array().is_some_and(|series| !series.is_empty())
        });
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Draws a board with its answers and fails when the picture has faults.
pub fn draw(board: &str, answers: &std::path::Path, picture: &std::path::Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboards/draw.mjs");
    let output = Command::new(installed("dashboards/node/bin/node"))
        .arg(script)
        .args([board, &answers.display().to_string(), &picture.display().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{board}: {}{}", text(&output.stdout), text(&output.stderr));
    assert!(fs::metadata(picture).unwrap().len() > 10_000, "{} is empty", picture.display());
}
