//! `deploy/demo/run`, as README.md calls it, whole: with Prometheus and without, interrupted, and failing.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "prometheus/faster.rs"]
mod faster;
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{installed, text, tool};
use tempfile::TempDir;

/// What the demo divides each duration by.
const FACTOR: u64 = 40;
/// What the demo says it needs beside HAProxy, Prometheus and Alertmanager, and the tools that every Debian has.
const PROGRAMS: [&str; 24] = [
    "bash", "cat", "cp", "dirname", "env", "fold", "grep", "ln", "mkdir", "mktemp", "mount", "mv",
    "python3", "realpath", "rm", "sed", "setpriv", "sleep", "stty", "tail", "unshare", "wc", "id",
    "test",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The commands of the block of README.md that these tests run.
fn commands_of_the_readme() -> [String; 2] {
    let page = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, block) = page.split_once("<!-- run by tests/demo.rs -->\n```console\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let commands: Vec<_> = block.lines().map(|line| line.strip_prefix("# ").unwrap()).collect();
    let [install, demo] = commands[..] else { panic!("two commands: {commands:?}") };
    [install, demo].map(str::to_owned)
}

/// A folder of one test, in which the demo has its scratch folder.
struct Place {
    folder: TempDir,
}

impl Place {
    /// A folder with nothing on its `PATH` but what the demo says it needs.
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("demo-").tempdir().unwrap();
        fs::create_dir(folder.path().join("programs")).unwrap();
        fs::create_dir(folder.path().join("scratch")).unwrap();
        let place = Self { folder };
        for program in PROGRAMS {
            place.link(program, &which(program));
        }
        place
    }

    fn link(&self, name: &str, program: &Path) {
        std::os::unix::fs::symlink(program, self.folder.path().join("programs").join(name))
            .unwrap();
    }

    fn with_haproxy(self) -> Self {
        self.link("haproxy", &installed("haproxy/2.6/haproxy").canonicalize().unwrap());
        self
    }

    fn demo(&self) -> Command {
        // A shell cannot handle a signal that was ignored when it was started, as SIGINT is in a background job.
        let mut demo = Command::new(which("env"));
        demo.arg("--default-signal=INT").arg(root().join(&commands_of_the_readme()[1]));
        demo.env_clear()
            .env("PATH", self.folder.path().join("programs"))
            .env("DEMO_PATH", self.folder.path().join("programs"))
            .env("TMPDIR", self.folder.path().join("scratch"))
            .env("DEMO_EXPORTER", env!("CARGO_BIN_EXE_haproxy-host-exporter"))
            .stdin(Stdio::null());
        demo
    }

    /// Nothing of the demo is left: no folder, and no process with its folder in the command line.
    #[track_caller]
    fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.folder.path().join("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        let folder = self.folder.path().join("scratch").display().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let alive: Vec<String> = processes
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .map(|bytes| text(&bytes).replace('\0', " "))
            .filter(|line| line.contains(&folder))
            .collect();
        assert!(alive.is_empty(), "{alive:#?}");
    }
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(tool(program)));
    // Debian's own interpreter, not another one before it on PATH.
    let debian = Path::new("/usr/bin").join(program);
    if debian.exists() { debian } else { found.find(|file| file.exists()).unwrap() }
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    let mut rest = said;
    for part in parts {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| {
            panic!("{part:?} is missing, or not where it belongs, in\n{said}");
        });
        rest = after;
    }
}

#[test]
fn the_whole_incident() {
    let place = Place::new().with_haproxy();
    place.link("prometheus", &installed("prometheus/2.42/prometheus"));
    place.link("prometheus-alertmanager", &installed("alertmanager/0.25/prometheus-alertmanager"));
    let output = place.demo().output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert_says(
        &said,
        &[
            "[1/9] An ordinary day",
            "Each duration in them\n      is divided by 40",
            "[2/9] The listener is deleted",
            "[3/9] What is wrong? inspect",
            "CRITICAL port_stale_listener  lbagent",
            "[4/9] Before the next reload: check",
            "$ haproxy -c -q -f",
            "error[port_blocked]: tcp 127.0.0.1:20044",
            "error[port_blocked]: tcp 127.0.0.1:59044",
            "[5/9] What happens without the gate",
            "ddress already in use",
            "(exit code 1)",
            "[6/9] The alert, as a person gets it",
            "│ to webhook",
            "CRITICAL HAProxyPortBlocked, since 2",
            "lbagent on lb1 declares 2 ports that something else holds",
            "│ Runbook: http://lb1:10101/runbooks/HAProxyPortBlocked",
            "[7/9] The dashboard",
            "Processes by role and generation",
            "stale daemon",
            "now 1, most 1",
            "port_blocked",
            "[8/9] The way out: reap",
            "to signal with --execute",
            "SIGUSR1 to pid",
            "it has let go of its listeners",
            "tcp 127.0.0.1:20044: can be bound",
            "The client of tenant-a ends its session",
            "[9/9] The alert is resolved",
            "RESOLVED HAProxyPortBlocked on lb1, lbagent",
            "Done in",
        ],
    );
    place.assert_clean();
}

#[test]
fn without_prometheus_it_says_how_to_install_it_and_shows_the_rest() {
    let place = Place::new().with_haproxy();
    let output = place.demo().output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert_says(
        &said,
        &[
            "apt-get install -y prometheus prometheus-alertmanager",
            "CRITICAL port_stale_listener  lbagent",
            "error[port_blocked]: tcp 127.0.0.1:59044",
            "left out: Prometheus or Alertmanager is missing",
            "tcp 127.0.0.1:20044: can be bound",
            "Done in",
        ],
    );
    place.assert_clean();
}

/// The README installs what the help of the demo asks for, and what the build needs.
#[test]
fn the_readme_installs_what_the_demo_needs() {
    let [install, demo] = commands_of_the_readme();
    let help = Command::new(root().join(demo)).arg("--help").output().unwrap();
    let help = text(&help.stdout);
    let (_, wanted) = help.split_once("On Debian: apt-get install -y ").unwrap();
    let wanted = wanted.lines().next().unwrap();
    let update = "apt-get update && apt-get install -y gcc libc6-dev";
    assert_eq!(install, format!("{update} {wanted}"));
}

#[test]
fn without_haproxy_it_says_how_to_install_it() {
    let place = Place::new();
    let output = place.demo().output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("haproxy is missing; on Debian: apt-get install -y haproxy"), "{said}");
    place.assert_clean();
}

#[test]
fn when_a_step_fails_it_shows_the_logs_and_cleans_up() {
    let place = Place::new().with_haproxy();
    // The exporter that says nothing, and never serves.
    let mut demo = place.demo();
    demo.env("DEMO_EXPORTER", which("cat")).env("DEMO_PATIENCE", "10");
    let output = demo.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_says(&said, &["waited 10 s in vain for the exporter", "exporter.log", "unrecognized"]);
    place.assert_clean();
}

/// Starts the demo, and waits until it has printed this.
fn start(place: &Place, arguments: &[&str], until: &str) -> (Child, BufReader<impl std::io::Read>) {
    let mut demo = place.demo();
    demo.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = demo.spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut before = String::new();
    while !before.contains(until) {
        assert!(reader.read_line(&mut before).unwrap() > 0, "no {until:?} in\n{before}");
    }
    (child, reader)
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let place = Place::new().with_haproxy();
        let (mut child, _reader) = start(&place, &[], "[3/9]");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        place.assert_clean();
    }
}

#[test]
fn it_waits_for_a_key_and_can_be_kept_for_a_browser() {
    let place = Place::new().with_haproxy();
    let (mut child, mut reader) = start(&place, &["--pause", "--keep"], "its logs are in");
    let mut keys = child.stdin.take().unwrap();
    // One key for each step. The end waits for one more.
    keys.write_all(b"123456789").unwrap();
    keys.flush().unwrap();
    let mut rest = String::new();
    while !rest.contains("Press a key to end it all.") {
        assert!(reader.read_line(&mut rest).unwrap() > 0, "{rest}");
    }
    let (_, link) = rest.split_once("The exporter: http://").unwrap();
    let address = link.lines().next().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    assert!(child.try_wait().unwrap().is_none(), "it waits for a key");
    keys.write_all(b"x").unwrap();
    drop(keys);
    assert!(child.wait().unwrap().success());
    place.assert_clean();
}

/// The step that shortens durations is the one that the tests of the alerts trust, applied to all that is shipped.
#[test]
fn the_rules_are_the_shipped_ones_with_shorter_durations() {
    let mut files = vec![
        root().join("deploy/prometheus/prometheus.yaml"),
        root().join("deploy/alertmanager/alertmanager.yaml"),
    ];
    let alerts = fs::read_dir(root().join("alerts")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(alerts.filter(|path| path.to_string_lossy().ends_with(".rules.yaml")));
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let slow = fs::read_to_string(&file).unwrap();
        let output = shorten(FACTOR, &slow);
        assert!(output.status.success(), "{}: {}", file.display(), said(&output));
        assert_eq!(text(&output.stdout), faster::faster(&slow, FACTOR), "{}", file.display());
    }
    let script = fs::read_to_string(root().join("deploy/demo/run")).unwrap();
    assert!(script.contains(&format!("\nFACTOR={FACTOR}\n")));
    for (wrong, why) in [("for: 5x\n", "no duration"), ("for: 90ms\n", "cannot be divided by 40")] {
        let output = shorten(FACTOR, wrong);
        assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
    }
}

fn shorten(factor: u64, slow: &str) -> Output {
    let mut child = Command::new(root().join("deploy/demo/faster.py"))
        .arg(factor.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let slow = slow.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(slow.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

#[test]
fn shellcheck_finds_nothing() {
    let output = Command::new(tool("shellcheck")).arg(root().join("deploy/demo/run")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", said(&output));
}
