//! One service of the campaign: it is started, reloaded, disturbed and killed as chance says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::mode::{Act, Mode};
use crate::now;
use crate::support::*;

/// Ports a service may listen on.
const PORTS: u16 = 6;

/// How long a master may outlive its worker before it is killed too.
const OUTLIVES: Duration = Duration::from_secs(20);

/// How long an anomaly may outlive its reason: the grace, some samples and a busy machine.
const AFTERMATH: f64 = 12.0;

/// The first of the pids that no process has.
const NO_PROCESS: i32 = 4_000_000;

/// How many acts the report of a fault names.
const RECENT: usize = 6;

/// A service and its history.
pub struct Actor<'b> {
    bed: &'b Bed,
    pub version: Version,
    pub mode: Mode,
    index: u16,
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ports: Vec<u16>,
    clients: Vec<TcpStream>,
    /// Reloads that landed: daemons that were started to replace one.
    reloads: usize,
    /// Reloads that a master was asked for.
    asked: usize,
    /// Reloads that a master was asked for while its configuration was refused.
    refused: usize,
    /// How often the service was started anew.
    starts: usize,
    /// Which process was told to replace which, the older first.
    told: BTreeSet<(i32, i32)>,
    /// Processes that a reload has left behind.
    stranded: BTreeSet<i32>,
    /// The last acts, each with its time.
    acts: VecDeque<(f64, Act)>,
    /// Kinds of anomaly that the history justifies, each until a time.
    justified: BTreeMap<&'static str, f64>,
}

/// What a service has done, for the comparison with counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deeds {
    pub reloads: usize,
    pub refused: usize,
    pub starts: usize,
    /// The number that a master gives its reloads.
    pub numbered: usize,
    /// Reloads of masters that were asked for and not refused.
    pub landed: usize,
}

impl<'b> Actor<'b> {
    pub fn new(bed: &'b Bed, index: usize, version: Version, mode: Mode) -> Self {
        let stem = format!("{}-{index}-{}", mode.name(), version.name().replace('.', ""));
        let directory = bed.directory().join(&stem);
        fs::create_dir_all(directory.join("jail")).unwrap();
        let index = u16::try_from(index).unwrap();
        if mode == Mode::Namespace {
            bed.shell(&format!("ip netns add c{index} && ip -n c{index} link set lo up"));
        }
        let actor = Self { bed, version, mode, index, directory, state: Mutex::default() };
        actor.state.lock().unwrap().ports = vec![actor.port(0)];
        actor
    }

    /// What the report calls it.
    pub fn title(&self) -> String {
        format!("{} {} ({})", self.version.name(), self.mode.name(), self.index)
    }

    fn port(&self, place: u16) -> u16 {
        11_000 + self.index * 10 + place
    }

    /// Twins share the file of the one that is an even number of services away.
    fn file(&self) -> PathBuf {
        match self.mode {
            Mode::Twin => self.bed.directory().join(format!("twin-{}.cfg", self.version.name())),
            _ => self.directory.join("h.cfg"),
        }
    }

    fn pidfile(&self) -> PathBuf {
        self.directory.join(format!("{}.pid", self.directory.file_name().unwrap().display()))
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// The pid of the process that answers `show info`. A process that was left behind may share the socket with
    /// its successor (`-x`), and answer in its stead: then it is not known which one serves.
    pub fn answers(&self) -> Option<i32> {
        let answer = ask(&self.socket(), "show info")?;
        let pid = answer.lines().find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok());
        pid.filter(|pid| !self.state.lock().unwrap().stranded.contains(pid))
    }

    /// Its last acts, for the report.
    pub fn recent(&self) -> String {
        let state = self.state.lock().unwrap();
        let acts = state.acts.iter().map(|(time, act)| format!("{act:?} at {time:.1}"));
        format!("ports {:?}, {}", state.ports, acts.collect::<Vec<_>>().join(", "))
    }

    /// What it has done up to now.
    pub fn deeds(&self) -> Deeds {
        let state = self.state.lock().unwrap();
        let numbered = self.numbered().unwrap_or(0);
        let landed = state.asked.saturating_sub(state.refused);
        let State { reloads, refused, starts, .. } = *state;
        Deeds { reloads, refused, starts, numbered, landed }
    }

    /// The number of its last reload, as its master counts; `None` for a daemon.
    fn numbered(&self) -> Option<usize> {
        let answer =
            self.mode.is_master().then(|| ask(&self.directory.join("m"), "show proc"))??;
        let words = answer.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut masters = words.filter(|words| words.get(1) == Some(&"master"));
        masters.next()?.get(2)?.parse().ok()
    }

    /// Kinds of anomaly that the history justifies at that time.
    pub fn justifies(&self, kind: &str, time: f64) -> bool {
        self.state.lock().unwrap().justified.get(kind).is_some_and(|until| *until > time)
    }

    /// Starts it and waits until it answers.
    pub fn start(&self, chance: &mut Chance) {
        self.write(chance, "");
        let mut command = self.command();
        if self.mode.is_master() {
            let flag = if self.mode == Mode::Notify { "-Ws" } else { "-W" };
            command.arg(flag).arg("-S").arg(self.directory.join("m"));
        } else {
            command.arg("-D");
        }
        self.run(&mut command);
        self.state.lock().unwrap().starts += 1;
        await_some(&format!("{} to answer", self.title()), || self.answers());
    }

    /// The newer daemon was told to replace the older one.
    pub fn told(&self, older: i32, newer: i32) -> bool {
        self.state.lock().unwrap().told.contains(&(older, newer))
    }

    /// Does one act.
    pub fn act(&self, act: Act, chance: &mut Chance) {
        {
            let acts = &mut self.state.lock().unwrap().acts;
            acts.push_back((now(), act));
            let old = acts.len().saturating_sub(RECENT);
            acts.drain(..old);
        }
        if !self.mode.is_master() && self.answers().is_none() {
            // From 3.1 on a reload that cannot bind leaves the socket of the old process shut.
            return self.kill(self.pid_in_file(), chance);
        }
        let shared = matches!(act, Act::Ports | Act::Bad | Act::Blocked);
        match act {
            // The other twin reads the same file, so it stays as it is.
            _ if shared && self.mode == Mode::Twin => self.reload("-sf", chance),
            Act::Stop => self.reload_again("-st", chance),
            Act::Burst => (0..2 + chance.below(3)).for_each(|_| self.reload_again("-sf", chance)),
            Act::Ports => {
                let all: Vec<u16> = (0..PORTS).map(|place| self.port(place)).collect();
                let drawn = chance.some(&all);
                self.state.lock().unwrap().ports = drawn;
                self.write(chance, "");
                let before = self.numbered();
                self.reload_again("-sf", chance);
                if self.mode.is_master() && self.numbered() <= before {
                    // A master overlooks SIGUSR2 while it starts, so it has not read the new ports yet.
                    for kind in ["port_missing", "port_undeclared"] {
                        self.justify(kind, f64::INFINITY);
                    }
                }
            }
            Act::Strand if self.mode.can_strand() => self.strand(chance),
            Act::Reload | Act::Strand => self.reload_again("-sf", chance),
            Act::Bad => self.bad(chance),
            Act::Blocked => self.blocked(chance),
            Act::Hold => self.hold(chance),
            Act::Release => {
                let clients = &mut self.state.lock().unwrap().clients;
                clients.drain(..clients.len().div_ceil(2));
            }
            Act::KillMaster if self.mode.is_master() => self.kill(self.pid_in_file(), chance),
            Act::Kill | Act::KillMaster => self.kill(self.answers(), chance),
        }
    }

    /// A reload after one that was blocked or overlooked binds what the file declares.
    fn reload_again(&self, flag: &str, chance: &mut Chance) {
        self.reload(flag, chance);
        for kind in ["port_undeclared", "port_missing"] {
            if self.justifies(kind, now()) {
                self.justify(kind, now() + AFTERMATH);
            }
        }
    }

    fn reload(&self, flag: &str, chance: &mut Chance) {
        if self.mode.is_master() {
            if let Some(master) = self.pid_in_file().filter(|pid| self.bed.is_alive(*pid)) {
                self.justify("reload_failed", now() + AFTERMATH);
                self.bed.run("kill", &["-USR2", &master.to_string()]);
                self.state.lock().unwrap().asked += 1;
            }
            std::thread::sleep(Duration::from_millis(200 + chance.below(300) as u64));
            return;
        }
        let Some(old) = self.answers() else { return };
        if let Some(new) = self.replace(old, &[flag, &old.to_string()]) {
            self.state.lock().unwrap().told.insert((old, new));
        }
    }

    /// Starts a daemon beside the one that answers; returns which one answers in its stead.
    fn replace(&self, old: i32, list: &[&str]) -> Option<i32> {
        let mut command = self.command();
        command.arg("-D");
        if self.mode == Mode::Transfer {
            command.arg("-x").arg(self.socket());
        }
        command.args(list);
        self.run(&mut command).then(|| {
            self.state.lock().unwrap().reloads += 1;
            // Its successor may answer only a moment later.
            await_some(&format!("{} after a reload", self.title()), || {
                self.answers().filter(|pid| *pid != old)
            })
        })
    }

    /// The old process is not told to stop, and is told so later, as `reap` does it.
    fn strand(&self, chance: &mut Chance) {
        let Some(old) = self.answers() else { return };
        let kinds = ["port_stale_listener", "port_undeclared", "port_split"];
        for kind in kinds {
            self.justify(kind, f64::INFINITY);
        }
        if chance.below(2) == 0 {
            let all: Vec<u16> = (0..PORTS).map(|place| self.port(place)).collect();
            let drawn = chance.some(&all);
            self.state.lock().unwrap().ports = drawn;
            self.write(chance, "");
        }
        let number = {
            let stranded = &mut self.state.lock().unwrap().stranded;
            stranded.insert(old);
            stranded.len()
        };
        let dead = NO_PROCESS + i32::try_from(number).unwrap();
        self.replace(old, &["-sf", &dead.to_string()]);
        std::thread::sleep(Duration::from_secs(chance.below(8) as u64));
        self.bed.run("kill", &["-USR1", &old.to_string()]);
        await_true("the stranded process to give its ports up", || !self.bed.listens(old));
        for kind in kinds {
            self.justify(kind, now() + AFTERMATH);
        }
    }

    fn bad(&self, chance: &mut Chance) {
        self.write(chance, "    nonsense here\n");
        self.justify("reload_failed", f64::INFINITY);
        self.refuse();
        self.reload("-sf", chance);
        std::thread::sleep(Duration::from_millis(chance.below(1000) as u64));
        self.write(chance, "");
        if self.mode.is_master() {
            self.reload("-sf", chance);
        }
    }

    fn blocked(&self, chance: &mut Chance) {
        let port = self.port(9);
        let line = format!("TCP-LISTEN:{port},bind=127.0.0.1");
        let mut command = self.enter("socat");
        command.args([&line, "EXEC:sleep 60"]);
        let mut thief = self.bed.start(command, &format!("thief-{}.log", self.index));
        let has_port = await_some("the thief's port or its end", || {
            let listens = self.bed.listens(thief.pid());
            (listens || thief.has_ended()).then_some(listens)
        });
        if !has_port {
            return; // a reload that was blocked before got the port in the end
        }
        self.write(chance, &format!("    bind 127.0.0.1:{port}\n"));
        self.justify("reload_failed", f64::INFINITY);
        self.justify("port_blocked", f64::INFINITY);
        // While it tries to bind, it pauses the listeners of the process that serves.
        self.justify("port_missing", f64::INFINITY);
        self.refuse();
        self.reload("-sf", chance);
        std::thread::sleep(Duration::from_millis(chance.below(1000) as u64));
        self.write(chance, "");
        self.justify("port_blocked", now() + AFTERMATH);
        self.justify("port_missing", now() + AFTERMATH);
        drop(thief);
        if self.mode.is_master() {
            // A master that still tries gets the port now, which the file no longer declares, and may
            // overlook the next SIGUSR2 while it starts.
            self.justify("port_undeclared", f64::INFINITY);
            self.reload("-sf", chance);
        }
    }

    fn hold(&self, chance: &mut Chance) {
        let Some(pid) = self.answers() else { return };
        let ports = self.state.lock().unwrap().ports.clone();
        let network = fs::File::open(self.bed.procfs().join(format!("{pid}/ns/net")));
        let Ok(network) = network else { return };
        for _ in 0..=chance.below(3) {
            let port = chance.one(&ports);
            let connect = || {
                use std::os::fd::AsFd as _;
                rustix::thread::move_into_link_name_space(network.as_fd(), None).ok()?;
                let address = format!("127.0.0.1:{port}").parse().unwrap();
                TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
            };
            let client = std::thread::scope(|scope| scope.spawn(connect).join().unwrap());
            self.state.lock().unwrap().clients.extend(client);
        }
    }

    /// Kills a process of it, waits until nothing of it serves, and starts it again.
    fn kill(&self, pid: Option<i32>, chance: &mut Chance) {
        let Some(pid) = pid else { return };
        for kind in ["process_orphan", "pidfile_mismatch", "reload_failed", "port_missing"] {
            self.justify(kind, f64::INFINITY);
        }
        let master = self.mode.is_master().then(|| self.pid_in_file()).flatten();
        let workers = master.map(|master| self.bed.children(master)).unwrap_or_default();
        self.bed.run("kill", &["-KILL", &pid.to_string()]);
        let gone = |pid: &i32| !self.bed.is_alive(*pid);
        let deadline = Instant::now() + OUTLIVES;
        while !(gone(&pid) && workers.iter().all(gone) && master.iter().all(gone)) {
            if Instant::now() > deadline {
                // A master that outlives its worker by its own choice (no-exit-on-failure).
                let left = workers.iter().chain(&master);
                for pid in left {
                    self.bed.run("kill", &["-KILL", &pid.to_string()]);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.start(chance);
        for kind in ["process_orphan", "pidfile_mismatch", "reload_failed", "port_missing"] {
            self.justify(kind, now() + AFTERMATH);
        }
    }

    /// A master is about to be asked for a reload that cannot land.
    fn refuse(&self) {
        if self.mode.is_master() {
            self.state.lock().unwrap().refused += 1;
        }
    }

    fn justify(&self, kind: &'static str, until: f64) {
        self.state.lock().unwrap().justified.insert(kind, until);
    }

    fn pid_in_file(&self) -> Option<i32> {
        fs::read_to_string(self.pidfile()).ok()?.lines().next()?.trim().parse().ok()
    }

    /// Writes the configuration in one step, with `more` at the end of its proxy.
    fn write(&self, chance: &mut Chance, more: &str) {
        let (socket, ports) = if self.mode == Mode::Twin {
            ("\"${SOCK}\"".to_owned(), vec!["\"${PORT}\"".to_owned()])
        } else {
            let ports = self.state.lock().unwrap().ports.clone();
            let ports = ports.iter().map(u16::to_string).collect();
            (self.socket().display().to_string(), ports)
        };
        if self.mode == Mode::Twin && self.file().exists() {
            return;
        }
        let stop = chance.one(&["2s", "5s", "60s"]);
        let jail = match self.mode {
            Mode::Jail => format!("    chroot {}\n", self.directory.join("jail").display()),
            _ => String::new(),
        };
        let binds: Vec<String> =
            ports.iter().map(|port| format!("    bind 127.0.0.1:{port}\n")).collect();
        let text = format!(
            "global\n    stats socket {socket} level admin expose-fd listeners\n    \
             hard-stop-after {stop}\n{jail}defaults\n    mode tcp\n    timeout connect 5s\n    \
             timeout client 1h\n    timeout server 1h\nlisten waiting-room\n    \
             tcp-request inspect-delay 1h\n    tcp-request content accept if WAIT_END\n    \
             server nobody 127.0.0.1:9\n{}{more}",
            binds.concat()
        );
        let new = self.directory.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.file()).unwrap();
    }

    /// A command that runs where the service runs.
    fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        if self.mode != Mode::Namespace {
            return self.bed.command(program);
        }
        let mut command = self.bed.command("ip");
        command.args(["netns", "exec", &format!("c{}", self.index)]).arg(program);
        command
    }

    fn command(&self) -> Command {
        // A master without -D stays: the shell leaves it behind.
        let mut command = self.enter("sh");
        let line = if self.mode == Mode::Notify { "\"$@\" &" } else { "exec \"$@\"" };
        command.args(["-c", line, "sh"]).arg(self.version.binary());
        command.env("PORT", self.port(0).to_string()).env("SOCK", self.socket());
        command.arg("-f").arg(self.file());
        if self.mode != Mode::Twin {
            command.arg("-p").arg(self.pidfile());
        }
        if self.mode == Mode::Master {
            command.arg("-D");
        }
        command
    }

    fn run(&self, command: &mut Command) -> bool {
        let log = self.directory.join("log");
        let file = fs::File::options().create(true).append(true).open(log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap().success()
    }
}
