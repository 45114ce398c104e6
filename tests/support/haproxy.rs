//! The real `HAProxy`s, and the three manners in which people run and reload them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::bed::text;
use super::{Bed, await_some, await_true, installed};

/// A release branch, see tests/versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V2_6,
    V2_8,
    V3_0,
    V3_2,
    V3_4,
}

impl Version {
    /// Every version that the tests have.
    pub const ALL: [Self; 5] = [Self::V2_6, Self::V2_8, Self::V3_0, Self::V3_2, Self::V3_4];

    pub fn name(self) -> &'static str {
        match self {
            Version::V2_6 => "2.6",
            Version::V2_8 => "2.8",
            Version::V3_0 => "3.0",
            Version::V3_2 => "3.2",
            Version::V3_4 => "3.4",
        }
    }

    pub fn binary(self) -> PathBuf {
        installed(&format!("haproxy/{}/haproxy", self.name())).canonicalize().unwrap()
    }
}

/// How it is run, and so how it is reloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `-D -sf OLD`: the new process binds anew.
    Daemon,
    /// `-D -sf OLD -x SOCKET`: the new process takes the old one's sockets over.
    DaemonTransfer,
    /// `-W`, reloaded by SIGUSR2 to the master.
    Master,
}

/// One service: a directory with a configuration, a pidfile and sockets, and the processes of it.
pub struct Service<'b> {
    bed: &'b Bed,
    version: Version,
    manner: Manner,
    directory: PathBuf,
    /// The executable.
    pub binary: PathBuf,
    /// What its command line says of its manner; `None` where the configuration does.
    pub mode: Option<&'static str>,
    /// How its command line names the pidfile and the configuration.
    pub arguments: Vec<String>,
    /// The words before the binary, such as a wrapper that blocks a signal.
    pub wrapper: Vec<String>,
}

impl<'b> Service<'b> {
    pub fn new(bed: &'b Bed, version: Version, manner: Manner) -> Self {
        Self::named(bed, version, manner, "lb")
    }

    /// A service in a directory of that name, for beds with more than one.
    pub fn named(bed: &'b Bed, version: Version, manner: Manner, name: &str) -> Self {
        let directory = bed.directory().join(name);
        fs::create_dir(&directory).unwrap();
        let binary = version.binary();
        let path = |name| directory.join(name).display().to_string();
        let arguments =
            ["-p", &path("haproxy.pid"), "-f", &path("haproxy.cfg")].map(str::to_owned).to_vec();
        let mode = Some(if manner == Manner::Master { "-W" } else { "-D" });
        Self { bed, version, manner, directory, binary, mode, arguments, wrapper: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn pidfile(&self) -> PathBuf {
        self.path("haproxy.pid")
    }

    /// Writes the configuration: the parts every scenario shares, and its own proxies.
    pub fn configure(&self, proxies: &str) -> &Self {
        self.configure_with("", proxies)
    }

    /// The same with further lines in `global`.
    pub fn configure_with(&self, global: &str, proxies: &str) -> &Self {
        let socket = self.path("admin.sock");
        let text = format!(
            "global\n    stats socket {} mode 600 level admin expose-fd listeners\n{global}\n\
             defaults\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\n{proxies}\n",
            socket.display()
        );
        self.configure_raw(&text)
    }

    /// Writes the configuration as it is.
    pub fn configure_raw(&self, text: &str) -> &Self {
        // In one step: on a busy disk a file just truncated may stay empty for seconds.
        let new = self.path("haproxy.cfg.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.path("haproxy.cfg")).unwrap();
        self
    }

    /// A command line for this service, without anything about older processes.
    pub fn command(&self) -> Command {
        let mut words = self.wrapper.clone();
        words.push(self.binary.display().to_string());
        let mut command = self.bed.command(&words[0]);
        command.args(&words[1..]).args(self.mode).args(&self.arguments);
        // From 3.1 on -S without -W is refused.
        if self.manner == Manner::Master && self.mode.is_some() {
            command.arg("-S").arg(self.path("master.sock"));
        }
        command
    }

    /// Starts it and waits until it serves; gives the pid of the serving process.
    #[track_caller]
    pub fn start(&self) -> i32 {
        if self.manner == Manner::Master {
            self.start_master();
            return await_some("a first worker", || {
                self.worker_in_charge().filter(|&pid| self.bed.listens(pid))
            });
        }
        self.expect_success(&self.launch(&[]));
        self.daemon().expect("a started daemon has written its pidfile")
    }

    /// Starts a master without waiting for its worker.
    pub fn start_master(&self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.bed.command("setsid");
        command
            .arg("--fork")
            .args(self.command().get_args().skip_while(|word| *word != "--").skip(1));
        let status = command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        assert!(status.success());
        await_true("the master's pidfile", || self.daemon().is_some());
    }

    /// Reloads it in its manner and waits until the new process is in charge; gives its pid.
    #[track_caller]
    pub fn reload(&self) -> i32 {
        if self.manner == Manner::Master {
            let old = self.bed.children(self.master());
            self.signal_reload();
            // From 3.1 on the new worker is listed before it serves, so the listeners of the old ones show
            // when it does.
            return await_some("the reload's worker", || {
                let new = self.worker_in_charge().filter(|pid| !old.contains(pid))?;
                let taken_over = !old.iter().any(|&pid| self.bed.listens(pid));
                (taken_over && self.bed.listens(new)).then_some(new)
            });
        }
        let old = self.serving();
        self.expect_success(&self.try_reload());
        let new = self.daemon().expect("a reload leaves a pidfile");
        assert_ne!(new, old, "the reload started no process");
        new
    }

    /// A reload that may fail (not for a master: its SIGUSR2 has no answer).
    pub fn try_reload(&self) -> Output {
        let old = self.daemon().map(|pid| pid.to_string()).unwrap_or_default();
        self.launch(&["-sf", &old])
    }

    /// Asks the master to reload.
    pub fn signal_reload(&self) {
        self.bed.kill("USR2", self.master());
    }

    /// Runs a daemon's command line, `arguments` and the transfer of sockets if that is its manner.
    pub fn launch(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments);
        if self.manner == Manner::DaemonTransfer && self.path("admin.sock").exists() {
            command.arg("-x").arg(self.path("admin.sock"));
        }
        // A daemon keeps its standard error open for a while: a file, so that no reader waits on a pipe.
        let log = self.path("launch.log");
        let file = fs::File::create(&log).unwrap();
        let status = command.stdout(Stdio::null()).stderr(file).status().unwrap();
        Output { status, stdout: Vec::new(), stderr: fs::read(log).unwrap() }
    }

    #[track_caller]
    fn expect_success(&self, output: &Output) {
        assert!(
            output.status.success(),
            "{:?} {:?}: {}: {}",
            self.version,
            self.manner,
            output.status,
            text(&output.stderr)
        );
    }

    /// The pid in the pidfile.
    pub fn daemon(&self) -> Option<i32> {
        fs::read_to_string(self.pidfile()).ok()?.lines().next()?.trim().parse().ok()
    }

    /// The process that serves now.
    #[track_caller]
    pub fn serving(&self) -> i32 {
        match self.manner {
            Manner::Master => self.worker_in_charge().expect("a worker in charge"),
            _ => self.daemon().expect("a pid in the pidfile"),
        }
    }

    /// The master.
    #[track_caller]
    pub fn master(&self) -> i32 {
        self.daemon().expect("a pid in the master's pidfile")
    }

    /// The worker without a reload behind it, as the master itself says.
    pub fn worker_in_charge(&self) -> Option<i32> {
        if self.mode.is_none() {
            // No master that could be asked: the youngest process that listens.
            let mut workers = self.bed.children(self.daemon()?).into_iter().rev();
            return workers.find(|&worker| self.bed.listens(worker));
        }
        self.ask("master.sock", "show proc")?.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(1) == Some(&"worker") && words.get(2) == Some(&"0"))
                .then(|| words[0].parse().ok())?
        })
    }

    /// Asks one of its sockets a question.
    pub fn ask(&self, socket: &str, question: &str) -> Option<String> {
        ask(&self.path(socket), question)
    }

    /// What the master has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// Asks a socket of `HAProxy` a question; `None` if there is no answer.
pub fn ask(socket: &Path, question: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    // A master keeps the connection open until it gets `quit`.
    stream.write_all(format!("{question}\nquit\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
