//! A bed: pid, mount, network, ipc and uts namespaces of its own for one test. No other test shares its
//! ports, pids and sysctls, and every process in it dies with it.
//!
//! Shared memory is its own, too: 2.8 and 3.0 keep the log of their start in a file of `/dev/shm`
//! named by their pid, and one that meets the file of another bed ends by SIGSEGV.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use super::{await_some, await_true, tool};

/// Only what a program on a host would find; HOSTNAME and the like would name its `HAProxy`s.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LANG", "C"),
    ("HOME", "/"),
];

/// The world of one test.
pub struct Bed {
    holder: Child,
    init: i32,
    directory: TempDir,
}

impl Bed {
    /// A bed whose pid 1 reaps orphans.
    pub fn new() -> Self {
        Self::with_init(&[tool("tini"), "--", "sleep", "infinity"])
    }

    /// A bed whose pid 1, a program named `sleep`, reaps no process, as in many containers.
    pub fn without_reaper() -> Self {
        Self::with_init(&["sleep", "infinity"])
    }

    /// A bed inside another one, as a container is on its host.
    pub fn inside_of(host: &Bed) -> Self {
        Self::make(host.command(tool("unshare")), &[tool("tini"), "--", "sleep", "infinity"])
    }

    /// A bed with `init` as its pid 1.
    pub fn with_init(init: &[&str]) -> Self {
        // Should the test be killed, the holder dies with it and takes the bed along.
        let mut unshare = Command::new(tool("setpriv"));
        unshare
            .args(["--pdeathsig", "KILL", tool("unshare")])
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null());
        Self::make(unshare, init)
    }

    /// Makes a bed by a command that ends with `unshare`.
    fn make(mut unshare: Command, init: &[&str]) -> Self {
        // Short, for the paths of unix sockets, and open to all, for tests without rights.
        let directory = tempfile::Builder::new()
            .prefix("bed-")
            .permissions(Permissions::from_mode(0o755))
            .disable_cleanup(std::env::var_os("KEEP_BEDS").is_some())
            .tempdir()
            .unwrap();

        let mut holder = unshare
            .args(["--pid", "--mount", "--net", "--ipc", "--uts", "--mount-proc"])
            .args(["--fork", "--kill-child", "--", "sh", "-c"])
            .args(["mount -t tmpfs shm /dev/shm && ip link set lo up && echo up && exec \"$@\" >/dev/null", "sh"])
            .args(init)
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // it complains of its own signal mask when the bed is taken down
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "the bed did not come up: may this user unshare namespaces?");
        // In another bed, `nsenter` has forked before `unshare` does.
        let mut init = only_child(&holder);
        while name_of(init) == "unshare" {
            init = only_child_of(init.unsigned_abs());
        }
        Self { holder, init, directory }
    }

    /// A directory of this bed, at the same path inside and outside.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into the bed's directory.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A command that will run in the bed.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(tool("nsenter"));
        command
            .arg(format!("--target={}", self.init))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid"])
            .arg(format!("--wd={}", self.directory().display()))
            .arg("--")
            .arg(program)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null());
        command
    }

    /// A command that will run in this bed, but in the network of another one.
    pub fn command_in_network_of(
        &self,
        other: &Bed,
        program: impl AsRef<std::ffi::OsStr>,
    ) -> Command {
        let mut command = Command::new(tool("nsenter"));
        command
            .arg(format!("--target={}", self.init))
            .args(["--mount", "--uts", "--ipc", "--pid"])
            .arg(format!("--net=/proc/{}/ns/net", other.init))
            .arg("--")
            .arg(program)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell line in the bed and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        let output = self.command("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Gives the bed a file of its own below `/etc`, where the machine need not have one.
    pub fn replace_in_etc(&self, name: &str, content: &str) {
        let (file, etc) = (self.write(name, content), self.directory().join("etc"));
        let (file, etc) = (file.display(), etc.display());
        self.shell(&format!(
            "[ -e /etc/{name} ] || {{ cp -a /etc {etc} && touch {etc}/{name} && mount --bind {etc} /etc; }}
             mount --bind {file} /etc/{name}"
        ));
    }

    /// Runs a command of this bed to its end.
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).output().unwrap()
    }

    /// Starts a command made by [`Bed::command`], its output going to `log` in the bed's directory.
    pub fn start(&self, mut command: Command, log: &str) -> Running {
        let log = self.directory().join(log);
        let file = fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Running::new(command.spawn().unwrap(), log)
    }

    /// Sends a signal, by its short name, to a process of this bed. A process told to stop has
    /// stopped when this returns: each of its threads stops only when it is next scheduled.
    pub fn kill(&self, signal: &str, pid: i32) {
        self.shell(&format!("kill -{signal} {pid}"));
        if signal == "STOP" {
            await_true("every thread stopped", || self.has_stopped(pid));
        }
    }

    /// Is every thread of the process stopped?
    fn has_stopped(&self, pid: i32) -> bool {
        let threads = fs::read_dir(self.procfs().join(format!("{pid}/task"))).unwrap();
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// The bed's own procfs.
    pub fn procfs(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/proc", self.init))
    }

    /// A file of a process of this bed; `None` when the process is gone.
    pub fn process_file(&self, pid: i32, file: &str) -> Option<String> {
        let bytes = fs::read(self.procfs().join(pid.to_string()).join(file)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Is the process there, and not a zombie? Its first thread may be one while others are still to
    /// end: until the last of them has, its descriptors, and the ports with them, are not given back.
    pub fn is_alive(&self, pid: i32) -> bool {
        self.stat(pid)
            .is_some_and(|stat| stat.state != 'Z' && stat.state != 'X' || stat.threads > 1)
    }

    /// State of a process, that is of its first thread, as one letter.
    pub fn state(&self, pid: i32) -> Option<char> {
        self.stat(pid).map(|stat| stat.state)
    }

    /// Processes of this bed by name, zombies included, in order of their pids.
    pub fn pids_of(&self, comm: &str) -> Vec<i32> {
        let mut pids: Vec<i32> = fs::read_dir(self.procfs())
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&pid| self.stat(pid).is_some_and(|stat| stat.comm == comm))
            .collect();
        pids.sort_unstable();
        pids
    }

    /// Does the process hold a listening TCP socket?
    pub fn listens(&self, pid: i32) -> bool {
        self.tcp_sockets(pid, "0A") > 0
    }

    /// How many established TCP connections does the process hold?
    pub fn connections(&self, pid: i32) -> usize {
        self.tcp_sockets(pid, "01")
    }

    fn tcp_sockets(&self, pid: i32, state: &str) -> usize {
        let held = self.sockets(pid);
        let tables = ["net/tcp", "net/tcp6"].map(|table| self.process_file(pid, table));
        let lines = tables.iter().flatten().flat_map(|table| table.lines());
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|columns| columns.get(3) == Some(&state))
            .filter(|columns| columns.get(9).is_some_and(|inode| held.contains(*inode)))
            .count()
    }

    /// Inodes of the sockets a process holds.
    fn sockets(&self, pid: i32) -> BTreeSet<String> {
        let Ok(descriptors) = fs::read_dir(self.procfs().join(pid.to_string()).join("fd")) else {
            return BTreeSet::new();
        };
        descriptors
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|link| {
                Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
            })
            .collect()
    }

    /// Children of a process of this bed.
    pub fn children(&self, parent: i32) -> Vec<i32> {
        self.process_file(parent, &format!("task/{parent}/children"))
            .map(|pids| numbers(&pids))
            .unwrap_or_default()
    }

    /// When the process was started, in ticks since boot; `None` when it is gone.
    pub fn start_ticks(&self, pid: i32) -> Option<u64> {
        let stat = self.process_file(pid, "stat")?;
        stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
    }

    fn stat(&self, pid: i32) -> Option<Stat> {
        let stat = self.process_file(pid, "stat")?;
        let (head, tail) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = tail.split(' ').collect();
        Some(Stat {
            comm: head.split_once('(')?.1.to_owned(),
            state: fields.first()?.chars().next()?,
            threads: fields.get(17)?.parse().ok()?,
        })
    }

    /// Sets a network sysctl of this bed, by its path under `net`.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.shell(&format!("echo '{value}' >/proc/sys/net/{name}"));
    }

    /// Does `work` on a thread that is in this bed's network: sockets made there stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = self.door();
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter();
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// What a thread calls to move into this bed's network.
    pub fn door(&self) -> impl FnOnce() + Send + 'static {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        move || {
            use std::os::fd::AsFd as _;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        }
    }
}

/// What these tests read of `/proc/PID/stat`, `proc_pid_stat(5)`.
struct Stat {
    comm: String,
    state: char,
    threads: u32,
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Its pid 1 gone, the kernel kills the rest before the holder's wait returns.
        send(self.init, Signal::KILL);
        let _ = self.holder.wait();
    }
}

/// A program started in a bed and held by the test.
pub struct Running {
    /// `nsenter`, which has the exit status of the program.
    child: Child,
    host_pid: i32,
    pid: i32,
    log: PathBuf,
}

impl Running {
    fn new(child: Child, log: PathBuf) -> Self {
        let host_pid = only_child(&child);
        let status = fs::read_to_string(format!("/proc/{host_pid}/status")).unwrap_or_default();
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let pid = numbers(pids).last().copied().unwrap_or_default();
        Self { child, host_pid, pid, log }
    }

    /// Its pid in the bed.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.host_pid, signal);
    }

    /// Waits for its end and gives its exit code.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        await_some("a program's end", || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn send(host_pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(host_pid) {
        let _ = kill_process(pid, signal);
    }
}

/// `unshare` and `nsenter` fork once; the child is what they run.
fn only_child(parent: &Child) -> i32 {
    only_child_of(parent.id())
}

fn only_child_of(parent: u32) -> i32 {
    await_some("a process in the bed", || {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        // It has ended already: its pid is not needed any more, only its exit status.
        let exited = fs::read_to_string(format!("/proc/{parent}/stat"))
            .is_ok_and(|stat| stat.contains(") Z "));
        numbers(&children).first().copied().or(exited.then_some(0))
    })
}

fn name_of(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

fn numbers(text: &str) -> Vec<i32> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Output of a program as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
