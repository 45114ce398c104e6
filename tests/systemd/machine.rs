//! A small Debian whose systemd boots in a container, with the exporter installed as the README says.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::cgroup::Cgroup;
use super::support::{Page, installed, text, tool};

/// The shipped unit.
pub const EXPORTER: &str = "haproxy-host-exporter.service";

/// Longest that booting may take on a busy machine; it takes ten seconds on an idle one.
const BOOT_PATIENCE: Duration = Duration::from_secs(240);

/// Longest that a condition is waited for; `RestartSec=` and a watchdog's limit are part of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What [`Machine::command`] allows one command, in seconds.
const COMMAND_LIMIT: &str = "240";

/// A machine that ends with the test, however the test ends.
pub struct Machine {
    /// `unshare`, which ends with systemd-nspawn.
    holder: Child,
    /// The container's pid 1 as this host numbers it; 0 until it has appeared.
    init: i32,
    /// These two are dropped last, when no process is left in them.
    directory: TempDir,
    _cgroup: Cgroup,
}

impl Machine {
    /// Copies the system, installs the exporter and boots.
    ///
    /// # Panics
    /// When it does not come up; the message has what the container printed.
    pub fn boot() -> Self {
        Self::boot_prepared(install_exporter)
    }

    /// The same without the exporter: `prepare` may change the system before it boots.
    pub fn boot_prepared(prepare: impl FnOnce(&Path)) -> Self {
        let nspawn = tool("systemd-nspawn");
        assert!(geteuid().is_root(), "{nspawn} has to be run by root");
        let suite = std::env::var("SYSTEMD_SUITE").unwrap_or_else(|_| "trixie".to_owned());
        let directory = tempfile::Builder::new()
            .prefix(&format!("systemd-{suite}-"))
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let root = directory.path().join("root");
        copy_system(&suite, &root);
        allow_every_start(&root);
        prepare(&root);
        let cgroup = Cgroup::new();
        let holder = spawn(nspawn, &cgroup, &root, &directory.path().join("console.log"));
        let mut machine = Self { holder, init: 0, directory, _cgroup: cgroup };
        machine.await_boot();
        machine
    }

    fn await_boot(&mut self) {
        let deadline = Instant::now() + BOOT_PATIENCE;
        loop {
            if self.init == 0 {
                self.init = init_of(&self.holder).unwrap_or_default();
            } else {
                // Before there is a bus it fails; then it waits for the last job of the boot.
                let output = self.command(&["systemctl", "is-system-running", "--wait"]).output();
                let state = text(&output.unwrap().stdout);
                if ["running", "degraded"].contains(&state.trim()) {
                    return;
                }
            }
            let ended = self.holder.try_wait().unwrap();
            let alive = ended.is_none() && Instant::now() < deadline;
            assert!(alive, "systemd-nspawn did not boot a system ({ended:?}):\n{}", self.console());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn console(&self) -> String {
        fs::read_to_string(self.directory.path().join("console.log")).unwrap_or_default()
    }

    fn root(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path.trim_start_matches('/'))
    }

    /// Writes a file of the machine, and the directories that it needs.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.root(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A file of the machine.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root(path)).unwrap()
    }

    /// Installs a file of `deploy/systemd` in a directory of the machine.
    pub fn install(&self, file: &str, directory: &str, name: &str) {
        self.write(&format!("{directory}/{name}"), &shipped(file));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(tool("nsenter"));
        command
            .arg(format!("--target={}", self.init))
            .args(["--all", "--", "timeout", COMMAND_LIMIT])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command on the machine and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{}", self.complaint(words, &output));
        text(&output.stdout)
    }

    /// Runs a line of shell in the home of root and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        self.run(&["sh", "-c", &format!("cd /root && {line}")])
    }

    /// Starts a line of shell that goes on while other commands are run.
    pub fn start_shell(&self, line: &str) -> Child {
        let mut command = self.command(&["sh", "-c", &format!("cd /root && {line}")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Whether a command succeeds.
    pub fn succeeds(&self, words: &[&str]) -> bool {
        self.command(words).output().unwrap().status.success()
    }

    /// Copies a file of this host.
    pub fn copy(&self, from: &Path, to: &str) {
        fs::copy(from, self.root(to)).unwrap_or_else(|why| panic!("{}: {why}", from.display()));
    }

    /// Gives an order to systemd, which must succeed.
    #[track_caller]
    pub fn systemctl(&self, words: &[&str]) {
        self.run(&[&["systemctl"], words].concat());
    }

    /// Gives an order to systemd that may fail.
    pub fn systemctl_succeeds(&self, words: &[&str]) -> bool {
        self.command(&[&["systemctl"], words].concat()).output().unwrap().status.success()
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
    }

    /// The main process of a unit, as the machine numbers it.
    #[track_caller]
    pub fn main_pid(&self, unit: &str) -> String {
        self.property(unit, "MainPID")
    }

    /// The status and the body of one scrape; the status is 0 when there is no answer.
    pub fn scrape(&self) -> (u16, String) {
        let address = "http://127.0.0.1:10101/metrics";
        let curl = [
            "curl",
            "--silent",
            "--max-time",
            "20",
            "--write-out",
            "%{stderr}%{http_code}",
            address,
        ];
        let output = self.command(&curl).output().unwrap();
        (text(&output.stderr).trim().parse().unwrap_or_default(), text(&output.stdout))
    }

    /// Scrapes until a condition holds and gives that page. On every page on the way, too, nothing is
    /// unreadable.
    #[track_caller]
    pub fn await_page(&self, what: &str, condition: impl Fn(&Page) -> bool) -> Page {
        self.await_any_page(what, |page| {
            let unreadable = page.sum("haproxy_host_unreadable", &[]);
            assert!(unreadable < 0.5, "{what}: unreadable: {}", self.report(page));
            condition(page)
        })
    }

    /// The same where something may be unreadable.
    #[track_caller]
    pub fn await_any_page(&self, what: &str, condition: impl Fn(&Page) -> bool) -> Page {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.scrape();
            let page = match status {
                200 => Page::parse(&body).unwrap_or_else(|why| panic!("{what}: {why}")),
                // The exporter is down, or has no sample yet.
                0 | 503 => Page::default(),
                other => panic!("{what}: status {other}: {body}"),
            };
            if status == 200 && condition(&page) {
                return page;
            }
            assert!(Instant::now() < deadline, "no page with {what}: {}", self.report(&page));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a condition holds, and two samples later it still must.
    #[track_caller]
    pub fn settle(&self, what: &str, condition: impl Fn(&Page) -> bool) -> Page {
        let mut page = self.await_page(what, &condition);
        for _ in 0..2 {
            let last = taken(&page);
            page = self.await_page("a next sample", |page| taken(page) > last);
            assert!(condition(&page), "it did not stay with {what}: {}", self.report(&page));
        }
        println!("{what}: seen");
        page
    }

    /// The page as it is now.
    #[track_caller]
    pub fn page(&self) -> Page {
        self.await_page("anything", |_| true)
    }

    fn report(&self, page: &Page) -> String {
        format!("\n{}\n{}", page.brief(), self.journal())
    }

    fn complaint(&self, words: &[&str], output: &Output) -> String {
        let said = text(&output.stderr) + &text(&output.stdout);
        format!("{words:?}: {}\n{said}\n{}", output.status, self.journal())
    }

    fn journal(&self) -> String {
        let journal = ["journalctl", "--no-pager", "--lines=40", "--output=short-precise"];
        text(&self.command(&journal).output().unwrap().stdout)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its pid 1 every process of the container ends, and then systemd-nspawn by itself.
        match Pid::from_raw(self.init) {
            Some(init) => drop(kill_process(init, Signal::KILL)),
            None => drop(self.holder.kill()),
        }
        let deadline = Instant::now() + PATIENCE;
        while self.holder.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = self.holder.kill();
                let _ = self.holder.wait();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A copy of the system that tests/install has made.
fn copy_system(suite: &str, root: &Path) {
    let system = installed(&format!("systemd/{suite}"));
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).args([&system, root]).status();
    assert!(copied.unwrap().success(), "{} cannot be copied", system.display());
}

/// The tests may restart a unit as often as they like; by default, systemd refuses the sixth start in ten seconds.
fn allow_every_start(root: &Path) {
    let drop_ins = root.join("etc/systemd/system.conf.d");
    fs::create_dir_all(&drop_ins).unwrap();
    let setting = "[Manager]\nDefaultStartLimitIntervalSec=0\n";
    fs::write(drop_ins.join("start-limit.conf"), setting).unwrap();
}

/// The program under test: the one that `SYSTEMD_BINARY` names, or the one that cargo has just built.
pub fn binary() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = env!("CARGO_BIN_EXE_haproxy-host-exporter");
    std::env::var_os("SYSTEMD_BINARY").map_or_else(|| built.into(), |named| root.join(named))
}

/// Installs the exporter by hand.
fn install_exporter(root: &Path) {
    let binary = binary();
    let program = root.join("usr/bin/haproxy-host-exporter");
    fs::copy(&binary, &program).unwrap_or_else(|why| panic!("{}: {why}", binary.display()));
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let units = root.join("etc/systemd/system");
    for unit in [EXPORTER, "haproxy-host-exporter.socket"] {
        fs::write(units.join(unit), shipped(unit)).unwrap();
    }
    let settings = shipped("haproxy-host-exporter.default");
    fs::write(root.join("etc/default/haproxy-host-exporter"), settings).unwrap();
    fs::create_dir(root.join("etc/haproxy-host-exporter")).unwrap();
    let configuration = shipped("../config.yaml");
    fs::write(root.join("etc/haproxy-host-exporter/config.yaml"), configuration).unwrap();
}

fn shipped(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd").join(file);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn spawn(nspawn: &str, cgroup: &Cgroup, root: &Path, console: &Path) -> Child {
    let console = fs::File::create(console).unwrap();
    // Should the test be killed, unshare dies with it, then systemd-nspawn, and as that is pid 1 of a
    // namespace around the container, the container too. Its own death would leave the container running.
    let mut command = Command::new(tool("setpriv"));
    command
        .args(["--pdeathsig", "KILL", "sh", "-c"])
        .arg(
            "while [ \"$1\" != -- ]; do echo $$ >\"$1\" || exit 1; shift; done; shift; exec \"$@\"",
        )
        .arg("sh")
        .args(cgroup.entrances())
        .args([
            "--",
            tool("unshare"),
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child",
            "--",
            nspawn,
        ])
        .args(["--quiet", "--register=no", "--keep-unit"])
        .args(["--private-network", "--boot", "--directory"])
        .arg(root)
        .stdin(Stdio::null())
        .stdout(console.try_clone().unwrap())
        .stderr(console);
    command.spawn().unwrap()
}

/// The pid 1 of the container, as soon as it is there: the child of systemd-nspawn, which is the child
/// of unshare.
fn init_of(unshare: &Child) -> Option<i32> {
    let of_nspawn = children(&unshare.id().to_string())
        .iter()
        .flat_map(|pid| children(pid))
        .collect::<Vec<_>>();
    of_nspawn.into_iter().find_map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        // On the way to it systemd-nspawn has another child, which is no pid 1.
        (pids.split_whitespace().last() == Some("1")).then(|| pid.parse().ok())?
    })
}

fn children(pid: &str) -> Vec<String> {
    let pids = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    pids.split_whitespace().map(str::to_owned).collect()
}

/// When the sample of a page was taken; 0 on an empty page.
pub fn taken(page: &Page) -> f64 {
    page.value("haproxy_host_sample_timestamp_seconds", &[]).unwrap_or_default()
}
