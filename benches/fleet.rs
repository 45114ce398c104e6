//! Serves a fleet of simulated hosts: staged processes, judged and rendered as the exporter does it, at
//! `/hosts/NUMBER/metrics`. `fleet.py` lets a real Prometheus scrape them.
//!
//! With `--history SECONDS` it prints what Prometheus would have scraped in that time, as OpenMetrics, and
//! ends: `promtool` makes of it the blocks that Prometheus keeps for months.
//!
//! Every host has HAProxys that are reloaded each ten minutes; some hosts have one fault each, every kind
//! in turn; on one host in ten a pod comes and goes under another name each time. `/census` says how many
//! hosts show which kind, so that the figures are those of a fleet that really has them.

// The vocabulary of the unit tests, of which this file needs only a part.
#[allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "../src/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use haproxy_host_exporter::judge::verdict::Verdict;
use haproxy_host_exporter::metrics::{Exporter, Limits, Renderer};
use haproxy_host_exporter::model::{
    CollectorRun, Configuration, ConnectionState, Executable, Headroom, OwnProcess, PortRole,
    PortUse, UserIds,
};
use haproxy_host_exporter::policy::kind::Kind;
use haproxy_host_exporter::policy::{AllowedPort, Policy, Rules};
// `stage.rs` finds these where it finds them in the library.
use haproxy_host_exporter::{haproxy, judge, model, policy};

use stage::{Actor, Film, actor, tcp_use};

/// The first port of every HAProxy. What is outside of the policy begins at [`LAST_PORT`].
const FIRST_PORT: u16 = 2_000;
const LAST_PORT: u16 = 29_999;
/// The ports of the faults, behind those that a HAProxy has anyhow.
const UNDECLARED: u16 = 29_001;
const MISSING: u16 = 29_002;
const BLOCKED: u16 = 29_003;
const OUT_OF_RANGE: u16 = 30_001;
const EPHEMERAL: u16 = 40_001;
/// The most ports of a HAProxy, and of a host; more would meet those of the pods and of the faults.
const PORTS_OF_A_HAPROXY: u16 = 500;
const PORTS_OF_A_HOST: u16 = 26_000;
/// Seconds between two reloads, and how long the old process drains after each.
const RELOAD_EVERY: u32 = 600;
const DRAINS_FOR: u32 = 60;
/// Seconds that a pod lives.
const POD_LIVES: u32 = 300;
/// One host in this many has such pods.
const PODS_EVERY: usize = 10;
const PORTS_OF_A_POD: u16 = 5;

/// What the fleet consists of.
#[derive(Clone, Copy)]
struct Fleet {
    hosts: usize,
    haproxys: u16,
    ports: u16,
    /// One host in this many has a fault; 0 for none.
    faulty_every: usize,
}

impl Fleet {
    /// Why no host can be so.
    fn refusal(&self) -> Option<String> {
        let all = u32::from(self.haproxys) * u32::from(self.ports);
        (self.ports > PORTS_OF_A_HAPROXY || all > u32::from(PORTS_OF_A_HOST)).then(|| {
            format!(
                "at most {PORTS_OF_A_HAPROXY} ports for each HAProxy and {PORTS_OF_A_HOST} for a host, not {} for each \
                 of {}",
                self.ports, self.haproxys
            )
        })
    }

    /// The first port of each HAProxy.
    fn first_port(&self, service: u16) -> u16 {
        FIRST_PORT + self.ports * service
    }

    /// The kinds in turn, one for each faulty host.
    fn fault_of(&self, number: usize) -> Option<Kind> {
        let turn = number.checked_div(self.faulty_every)?;
        let is_faulty = number.is_multiple_of(self.faulty_every);
        is_faulty.then(|| Kind::ALL.get(turn % Kind::ALL.len()).copied()).flatten()
    }
}

/// One simulated host and what its exporter remembers.
struct Host {
    number: usize,
    fleet: Fleet,
    fault: Option<Kind>,
    /// The start of its HAProxys, in Unix seconds.
    started: u32,
    film: Film,
    renderer: Renderer,
    /// Of each HAProxy.
    configurations: Vec<Arc<Configuration>>,
    /// The kinds that fired at the last scrape.
    firing: Vec<Kind>,
}

impl Host {
    fn new(number: usize, fleet: Fleet, now: u32) -> Host {
        let fault = fleet.fault_of(number);
        let allowed = |ports| AllowedPort { protocol: None, address: None, ports };
        let ephemeral = allowed(EPHEMERAL..=EPHEMERAL);
        let allowed_ports = Some(vec![allowed(FIRST_PORT..=LAST_PORT), ephemeral]);
        let defaults = Rules { allowed_ports, ..Rules::default() };
        let mut host = Host {
            number,
            fleet,
            fault,
            // Three hours ago, and not all at once.
            started: now - 18 * RELOAD_EVERY - part(number * 37, RELOAD_EVERY),
            film: Film::with(Policy { defaults, ..Policy::default() }),
            renderer: Renderer::default(),
            configurations: Vec::new(),
            firing: Vec::new(),
        };
        host.configurations =
            (0..fleet.haproxys).filter_map(|service| host.configuration(service)).collect();
        host
    }

    /// Takes a sample of the host as it is at that time, and renders its page.
    fn page(&mut self, now: f64) -> String {
        let seconds = whole(now);
        let mut actors: Vec<Actor> = Vec::new();
        for service in 0..self.fleet.haproxys {
            actors.extend(self.service(service, seconds));
        }
        if self.number % PODS_EVERY == 3 {
            actors.push(self.pod(seconds));
        }
        let blocked = tcp_use(PortRole::Listening, &format!("0.0.0.0:{BLOCKED}"), 7, 0);
        let uses: &[PortUse] = if self.fault == Some(Kind::PortBlocked) { &[blocked] } else { &[] };
        let mut verdict = self.film.see_uses(now, &actors, uses);
        Self::add_what_is_not_staged(&mut verdict, now);
        self.firing = verdict.services.iter().flat_map(|s| s.firing().map(|a| a.kind)).collect();
        let exporter = Exporter {
            own: Some(self.own_process(now)),
            config_successful: true,
            config_success_timestamp: f64::from(self.started),
            ..Exporter::default()
        };
        self.renderer.render(&verdict, &exporter, Limits::of(&self.film.policy)).text()
    }

    /// A master with its worker, and for a while after a reload the worker before.
    fn service(&self, service: u16, now: u32) -> Vec<Actor> {
        let fault = self.fault_of(service);
        let base = 1000 * (i32::from(service) + 1);
        let name = format!("lb{service}");
        let line = format!("haproxy -W -f /etc/haproxy/{name}.cfg -p /run/{name}.pid");
        // A host with a fault was reloaded once, a minute after its start: another reload would end some of them.
        let (reloads, since) = if fault.is_some() {
            (1, self.started + 60)
        } else {
            let reloads = (now - self.started) / RELOAD_EVERY;
            (reloads, self.started + reloads * RELOAD_EVERY)
        };
        let configuration = self.configurations.get(usize::from(service)).cloned();
        let configured =
            |actor: Actor| actor.change(|process| process.configuration.clone_from(&configuration));
        let path = std::path::PathBuf::from(format!("/run/{name}.pid"));
        let with_pidfile = |actor: Actor, pid| {
            actor.pidfile(&[pid]).change(|process| {
                if let Some(pidfile) = &mut process.pidfile {
                    pidfile.path.clone_from(&path);
                }
            })
        };
        let mut worker = configured(actor(base + 1 + number(reloads), since, &line));
        for port in self.ports(service) {
            worker = worker.tcp(port, inode(service, port));
        }
        if let Some(port) = bound_for(fault) {
            worker = worker.tcp(port, inode(service, port));
        }
        let mut master = configured(actor(base, self.started, &line)).reload(reloads);
        let mut worker = worker.child_of(base).reload(reloads);
        let first = self.fleet.first_port(service);
        let older = || configured(actor(base + 1, self.started, &line)).child_of(base).reload(0);
        let daemon = |pid, started| {
            let list = format!("haproxy -D -f /etc/haproxy/{name}.cfg -p /run/{name}.pid -sf 9");
            let inode = inode(service, first) + u64::from(started - self.started);
            configured(actor(pid, started, &list)).tcp(first, inode)
        };
        match fault {
            Some(Kind::PortBacklog) => {
                for socket in &mut worker.bound {
                    socket.queue_length = socket.queue_limit;
                }
            }
            // A worker of the generation before, as its master numbers them.
            Some(Kind::PortStaleListener) => {
                let older = older().tcp(first, inode(service, first));
                return vec![older, master, worker];
            }
            Some(Kind::PortSplit) => {
                let older = older().tcp(first, inode(service, first) + 1);
                return vec![older, master, worker];
            }
            Some(Kind::ProcessIdle) => {
                return vec![older(), master, worker];
            }
            Some(Kind::ProcessZombie) => {
                return vec![master, worker, actor(base + 900, since, &line).child_of(base).dead()];
            }
            Some(Kind::ProcessOrphan) => return vec![worker.child_of(1).reload(1)],
            Some(Kind::ReloadFailed) => master = master.reload(2),
            Some(Kind::ReloadRaced) => {
                let later = self.started + 1;
                return vec![
                    with_pidfile(daemon(base, self.started), base),
                    with_pidfile(daemon(base + 1, later), base),
                ];
            }
            Some(Kind::PidfileMismatch) => return vec![with_pidfile(master, 1), worker],
            Some(Kind::BinaryOutdated) => {
                let replaced = |actor: Actor| {
                    let executable = Executable { path: "/usr/sbin/haproxy".into(), deleted: true };
                    actor.change(|process| process.executable = Some(executable))
                };
                (master, worker) = (replaced(master), replaced(worker));
            }
            _ => {}
        }
        let mut actors = vec![with_pidfile(master, base), worker];
        if reloads > 0 && now - since < DRAINS_FOR {
            let before = actor(base + number(reloads), since - RELOAD_EVERY, &line);
            let before = configured(before).child_of(base).reload(reloads - 1);
            actors.push(before.connected(inode(service, 1), ConnectionState::Established));
        }
        actors
    }

    /// Only the first HAProxy of a host has its fault.
    fn fault_of(&self, service: u16) -> Option<Kind> {
        self.fault.filter(|_| service == 0)
    }

    fn ports(&self, service: u16) -> impl Iterator<Item = u16> {
        let first = self.fleet.first_port(service);
        first..first + self.fleet.ports
    }

    /// What the HAProxy's file declares. It is read once, because it costs more than all the rest of a page.
    fn configuration(&self, service: u16) -> Option<Arc<Configuration>> {
        let fault = self.fault_of(service);
        let missing = match fault {
            Some(Kind::PortMissing) => Some(MISSING),
            Some(Kind::PortBlocked) => Some(BLOCKED),
            _ => None,
        };
        let extra = bound_for(fault).into_iter().filter(|port| *port != UNDECLARED);
        let ports = self.ports(service).chain(extra).chain(missing);
        let frontend = |port| format!("frontend f{port}\n    bind :{port}\n");
        // One file for all hosts, but on one in a hundred it differs.
        let note = if self.number % 100 == 7 { "# edited by hand\n" } else { "" };
        let text = format!("{note}{}", ports.map(frontend).collect::<String>());
        let edited = self.started + if fault == Some(Kind::ConfigNotLoaded) { 3660 } else { 0 };
        actor(1, self.started, "haproxy").configured(&text, edited).process.configuration
    }

    /// A HAProxy in a pod without a name of its own: each is another service.
    fn pod(&self, now: u32) -> Actor {
        let age = now - self.started;
        let turn = age / POD_LIVES;
        let pid = 900_000 + number(turn);
        let mut pod = actor(pid, self.started + turn * POD_LIVES, "haproxy -db -f /a.cfg")
            .in_cgroup(&format!("/system.slice/docker-{turn:064x}.scope"))
            .variable("HOSTNAME", &format!("review-{}-{turn}", self.number))
            .change(|process| process.users = Some(UserIds::all(0)));
        for port in 0..PORTS_OF_A_POD {
            pod = pod.tcp(28_000 + port, inode(99, port) + 100 * u64::from(turn));
        }
        pod
    }

    /// The parts of a page that come from no process.
    fn add_what_is_not_staged(verdict: &mut Verdict, now: f64) {
        let jitter = (now * 1000.0) % 7.0 / 10_000.0;
        let collectors =
            [("processes", 0.002), ("sockets", 0.001), ("ownership", 0.003), ("config", 0.0)];
        verdict.collectors = collectors
            .map(|(collector, seconds)| CollectorRun {
                collector,
                duration_seconds: seconds + jitter,
                success: true,
            })
            .to_vec();
        for service in &mut verdict.services {
            let memory = 8_000_000_000 + u64::from(whole(now) % 97) * 4096;
            service.headroom = Headroom { memory_bytes: Some(memory), pids: Some(30_000) };
        }
    }

    fn own_process(&self, now: f64) -> OwnProcess {
        OwnProcess {
            cpu_seconds: (now - f64::from(self.started)) * 0.004,
            open_fds: 30,
            max_fds: Some(1024),
            virtual_memory_bytes: 90_000_000,
            resident_memory_bytes: 12_000_000 + u64::from(whole(now) % 13) * 4096,
            start_timestamp_seconds: f64::from(self.started),
            threads: 4,
        }
    }
}

/// The ports that a fault has its worker listen on.
fn bound_for(fault: Option<Kind>) -> Option<u16> {
    match fault {
        Some(Kind::PortUndeclared) => Some(UNDECLARED),
        Some(Kind::PortOutOfRange) => Some(OUT_OF_RANGE),
        Some(Kind::PortEphemeral) => Some(EPHEMERAL),
        _ => None,
    }
}

fn inode(service: u16, port: u16) -> u64 {
    (u64::from(service) + 1) * 10_000_000 + u64::from(port) * 100
}

/// `value` modulo `most`.
fn part(value: usize, most: u32) -> u32 {
    u32::try_from(value).unwrap_or(0) % most
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a time of this era
fn whole(seconds: f64) -> u32 {
    seconds as u32
}

fn now() -> f64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0.0, |since| since.as_secs_f64())
}

/// How many hosts showed each kind at their last scrape.
fn census(hosts: &[Mutex<Host>]) -> String {
    let mut census: BTreeMap<&str, usize> =
        Kind::ALL.iter().map(|kind| (kind.as_str(), 0)).collect();
    for host in hosts {
        let host = host.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds: Vec<&str> = host.firing.iter().map(|kind| kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            *census.entry(kind).or_default() += 1;
        }
    }
    serde_json::json!(census).to_string()
}

fn answer(hosts: &[Mutex<Host>], path: &str) -> Option<String> {
    if path == "/census" {
        return Some(census(hosts));
    }
    let number = path.strip_prefix("/hosts/")?.strip_suffix("/metrics")?;
    let host = hosts.get(number.parse::<usize>().ok()?)?;
    Some(host.lock().unwrap_or_else(PoisonError::into_inner).page(now()))
}

/// Answers the requests of one connection until its end.
fn serve(hosts: &[Mutex<Host>], stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let (status, body) = match answer(hosts, &path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", String::new()),
        };
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        let length = body.len();
        write!(
            reader.get_mut(),
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
    }
}

/// Prints the samples of all hosts over so many seconds, one scrape each 15 s.
fn print_history(hosts: &[Mutex<Host>], seconds: usize) -> std::io::Result<()> {
    let begun = f64::from(whole(now())) - f64::from(part(seconds, u32::MAX));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, host) in hosts.iter().enumerate() {
        let mut host = host.lock().unwrap_or_else(PoisonError::into_inner);
        for scrape in 0..part(seconds / 15, u32::MAX) {
            // Prometheus is late by up to two milliseconds.
            let at = begun + f64::from(scrape) * 15.0 + f64::from(scrape % 3) / 1000.0;
            for line in host.page(at).lines().filter(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').unwrap_or_default();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let comma = if labels == "}" { "" } else { "," };
                writeln!(out, "{name}{{instance=\"lb{number}\"{comma}{labels} {value} {at:.3}")?;
            }
        }
    }
    writeln!(out, "# EOF")
}

/// The number after a flag.
fn flag(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn main() {
    let small = |name, default| u16::try_from(flag(name, default)).unwrap_or(u16::MAX);
    let fleet = Fleet {
        hosts: flag("--hosts", 100),
        haproxys: small("--haproxys", 1),
        ports: small("--ports", 50),
        faulty_every: flag("--faulty-every", 20),
    };
    if let Some(why) = fleet.refusal() {
        eprintln!("fleet: {why}");
        std::process::exit(2);
    }
    let history = flag("--history", 0);
    let begun = whole(now()) - part(history, u32::MAX);
    let hosts: Arc<Vec<Mutex<Host>>> = Arc::new(
        (0..fleet.hosts).map(|number| Mutex::new(Host::new(number, fleet, begun))).collect(),
    );
    if history > 0 {
        print_history(&hosts, history).expect("a pipe that is read to its end");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    println!("{}", listener.local_addr().expect("it is bound"));
    for stream in listener.incoming().flatten() {
        let hosts = Arc::clone(&hosts);
        // A client that goes away in the middle of an answer is no failure of the fleet.
        thread::spawn(move || serve(&hosts, stream).unwrap_or_default());
    }
}
