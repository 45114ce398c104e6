//! One simulated host: its HAProxys, their reloads and pods, its fault, and the page of its exporter.

use std::sync::Arc;

use haproxy_host_exporter::judge::verdict::Verdict;
use haproxy_host_exporter::metrics::{Exporter, Limits, Renderer};
use haproxy_host_exporter::model::{
    CollectorRun, Configuration, ConnectionState, Executable, Headroom, OwnProcess, PortRole,
    PortUse, UserIds,
};
use haproxy_host_exporter::policy::kind::Kind;
use haproxy_host_exporter::policy::{AllowedPort, Policy, Rules};

use super::stage::{Actor, Film, actor, tcp_use};

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
pub struct Fleet {
    pub hosts: usize,
    pub haproxys: u16,
    pub ports: u16,
    /// One host in this many has a fault; 0 for none.
    pub faulty_every: usize,
}

impl Fleet {
    /// Why no host can be so.
    pub fn refusal(&self) -> Option<String> {
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
pub struct Host {
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
    pub firing: Vec<Kind>,
}

impl Host {
    pub fn new(number: usize, fleet: Fleet, now: u32) -> Host {
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
    pub fn page(&mut self, now: f64) -> String {
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
pub fn part(value: usize, most: u32) -> u32 {
    u32::try_from(value).unwrap_or(0) % most
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a time of this era
pub fn whole(seconds: f64) -> u32 {
    seconds as u32
}
