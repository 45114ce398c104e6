//! One service of the campaign: its files, its processes, what it has done, and what that justifies.

mod acts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::chance::Chance;
use crate::mode::{Act, Mode};
use crate::support::*;

/// Ports a service may listen on.
const PORTS: u16 = 6;

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

    /// Whether `pid` was left behind by `newer`, which lives: with `-x` the two share a socket, and either may answer.
    pub fn is_left_behind(&self, pid: i32, newer: i32) -> bool {
        let started = |pid| Some((self.bed.start_ticks(pid)?, pid));
        self.mode == Mode::Transfer
            && started(newer).is_some_and(|newer| started(pid) < Some(newer))
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

    /// Whether a client is refused on each of these ports now.
    pub fn refuses(&self, ports: &BTreeSet<u16>) -> bool {
        let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
        let Some(network) = self.network() else { return false };
        !ports.is_empty() && ports.iter().all(|port| connect(&network, *port).is_err_and(refused))
    }

    /// The network namespace of the process that answers.
    fn network(&self) -> Option<fs::File> {
        fs::File::open(self.bed.procfs().join(format!("{}/ns/net", self.answers()?))).ok()
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

/// Connects to a port in a network namespace.
fn connect(network: &fs::File, port: u16) -> io::Result<TcpStream> {
    let connect = || {
        rustix::thread::move_into_link_name_space(network.as_fd(), None)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpStream::connect_timeout(&address, Duration::from_secs(1))
    };
    std::thread::scope(|scope| scope.spawn(connect).join().unwrap())
}
