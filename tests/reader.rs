//! Compares the reader of configurations with the real HAProxy: starts each file of `fixtures/reader`
//! on each version in a network namespace of its own, and compares the listening sockets with those
//! that the reader declares.
//!
//! The comments of a fixture control its test: `# versions: 2.6-3.0` or `3.0+`; `# env: NAME=value`;
//! `# args: …`; `# outcome: refused`; `# uncertain`; `# netns: NAME`, which creates a named namespace;
//! `# hosts: LINE`, which replaces `/etc` by a directory with that line in `/etc/hosts`. `$TMP` is a
//! directory with a certificate, `cert.pem`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use haproxy_host_exporter::haproxy::config::{Declared, Launch, Version, read};
use haproxy_host_exporter::model::Protocol;
use haproxy_host_exporter::sample::files::config_files::{Base, Collected, collect};

/// How long to wait for a HAProxy at most; enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An installed HAProxy.
struct Real {
    branch: String,
    program: PathBuf,
    /// Its version as `haproxy -vv` prints it.
    version: Version,
}

/// Every HAProxy, as `DIR/BRANCH/haproxy`, under `HAPROXY_VERSIONS_DIR`, else under the directory of
/// tests/install.
static REAL: LazyLock<Vec<Real>> = LazyLock::new(|| {
    let directory = std::env::var_os("HAPROXY_VERSIONS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache/haproxy"),
        PathBuf::from,
    );
    let mut real: Vec<Real> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}: run tests/install or set HAPROXY_VERSIONS_DIR",
                directory.display()
            )
        })
        .map(|entry| Real::new(&entry.unwrap().path()))
        .collect();
    real.sort_by(|a, b| a.branch.cmp(&b.branch));
    assert!(!real.is_empty(), "{}: no HAProxy: run tests/install", directory.display());
    real
});

impl Real {
    fn new(directory: &Path) -> Self {
        let program = directory.join("haproxy");
        let output = Command::new(&program).arg("-vv").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().find_map(|line| line.strip_prefix("HAProxy version ")).unwrap();
        Real {
            branch: directory.file_name().unwrap().to_string_lossy().into_owned(),
            program,
            version: Version::parse(version.split(' ').next().unwrap()).unwrap(),
        }
    }
}

/// A configuration to start, and how to start it.
#[derive(Default)]
struct Case {
    name: String,
    path: PathBuf,
    from: String,
    to: String,
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
    namespaces: Vec<String>,
    hosts: Option<String>,
    refused: bool,
    uncertain: bool,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reader")
}

fn cases(scratch: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| Case::new(&entry.unwrap().path(), scratch))
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    fn new(path: &Path, scratch: &Path) -> Self {
        let mut case = Case {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            path: path.file_name().unwrap().into(),
            from: "0".to_owned(),
            to: "9".to_owned(),
            ..Case::default()
        };
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        }
        let scratch = scratch.to_str().unwrap();
        case.environment.insert("TMP".to_owned(), scratch.to_owned());
        for file in files.iter().filter(|file| file.is_file()) {
            let text = std::fs::read(file).unwrap();
            for line in String::from_utf8_lossy(&text).lines() {
                case.header(&line.replace("@TMP@", scratch));
            }
        }
        case
    }

    fn header(&mut self, line: &str) {
        let Some(text) = line.strip_prefix("# ") else {
            return;
        };
        match text.split_once(": ") {
            None if text == "uncertain" => self.uncertain = true,
            Some(("outcome", "refused")) => self.refused = true,
            Some(("netns", name)) => self.namespaces.push(name.to_owned()),
            Some(("hosts", line)) => self.hosts = Some(line.to_owned()),
            Some(("args", words)) => {
                self.arguments.extend(words.split(' ').map(str::to_owned));
            }
            Some(("env", assignment)) => {
                let (name, value) = assignment.split_once('=').unwrap();
                self.environment.insert(name.to_owned(), value.to_owned());
            }
            Some(("versions", range)) => {
                if let Some((from, to)) = range.split_once('-') {
                    (self.from, self.to) = (from.to_owned(), to.to_owned());
                } else {
                    range.trim_end_matches('+').clone_into(&mut self.from);
                }
            }
            _ => {}
        }
    }

    fn is_for(&self, real: &Real) -> bool {
        self.from <= real.branch && real.branch <= self.to
    }

    fn collected(&self) -> Collected {
        let base = Base { directory: fixtures(), ..Base::default() };
        let collected = collect(std::slice::from_ref(&self.path), &base);
        assert_eq!(collected.problems, [], "{}", self.name);
        collected
    }

    fn launch(&self, real: &Real) -> Launch {
        let mut launch = Launch {
            environment: Some(self.environment.clone()),
            version: Some(real.version),
            host_name: std::fs::read_to_string("/proc/sys/kernel/hostname")
                .ok()
                .map(|name| name.trim_end().to_owned()),
            ..Launch::default()
        };
        let mut words = self.arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-L" => launch.local_peer = words.next().cloned(),
                "-S" => launch.master_sockets.extend(words.next().cloned()),
                "-W" => launch.master_worker = true,
                switch if switch.starts_with("-d") => {
                    launch.switches.insert(switch.trim_start_matches('-').to_owned());
                }
                other => panic!("{}: what is {other}?", self.name),
            }
        }
        launch
    }

    /// The command that starts it in a network namespace of its own, with a `/run` of its own for
    /// named namespaces and, if it resolves names, an `/etc` of its own.
    fn command(&self, real: &Real) -> Command {
        let mut script = "ip link set lo up && mount -t tmpfs tmpfs /run && ".to_owned();
        for name in &self.namespaces {
            write!(script, "ip netns add {name} && ").unwrap();
        }
        if let Some(line) = &self.hosts {
            write!(script, "mount -t tmpfs tmpfs /etc && echo '{line}' >/etc/hosts && ").unwrap();
        }
        script.push_str("exec env -i \"$@\"");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "sh", "-c", &script, "sh"])
            .args(self.environment.iter().map(|(name, value)| format!("{name}={value}")))
            .arg(&real.program)
            .arg("-f")
            .arg(&self.path)
            .args(&self.arguments)
            .current_dir(fixtures())
            .stdin(Stdio::null());
        command
    }
}

/// A bound socket: protocol, address, port, interface, named namespace.
type Socket = (Protocol, IpAddr, u16, Option<String>, Option<String>);

fn declared_sockets(declared: &Declared) -> BTreeSet<Socket> {
    let sockets = declared.endpoints().map(|(listener, port)| {
        let (interface, namespace) = (listener.interface.clone(), listener.namespace.clone());
        (listener.protocol, listener.address, port, interface, namespace)
    });
    sockets.collect()
}

/// The listening sockets in the network namespace of `pid` and in the named ones of its `/run`. Log
/// sockets are left out, as the exporter does: they have the smallest possible receive buffer.
fn bound_sockets(pid: u32, case: &Case) -> BTreeSet<Socket> {
    let own = std::iter::once(None);
    let mut sockets = BTreeSet::new();
    for namespace in own.chain(case.namespaces.iter().map(Some)) {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &pid.to_string()]);
        if let Some(name) = namespace {
            command.args(["ip", "netns", "exec", name]);
        }
        let output = command.args(["ss", "-HatunmO"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        sockets.extend(text.lines().filter_map(bound_socket).map(|mut socket| {
            socket.4 = namespace.cloned();
            socket
        }));
    }
    sockets
}

fn bound_socket(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let protocol = match words.get(..2)? {
        ["tcp", "LISTEN"] => Protocol::Tcp,
        ["udp", "UNCONN"] => Protocol::Udp,
        _ => return None,
    };
    let buffer = line.split("rb").nth(1)?.split(',').next()?;
    if protocol == Protocol::Udp && buffer.parse::<u32>().ok()? <= 2304 {
        return None;
    }
    let (place, port) = words.get(4)?.rsplit_once(':')?;
    let (address, interface) = match place.split_once('%') {
        Some((address, interface)) => (address, Some(interface.to_owned())),
        None => (place, None),
    };
    let address = match address.trim_matches(['[', ']']) {
        // ss prints this for an IPv6 socket that takes IPv4 too.
        "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        // An address of IPv4 in the form of IPv6 is the address of IPv4.
        address => address.parse::<IpAddr>().ok()?.to_canonical(),
    };
    Some((protocol, address, port.parse().ok()?, interface, None))
}

/// How the declared and the bound sockets differ. `None`: they do not.
fn difference(case: &Case, declared: &Declared, bound: &BTreeSet<Socket>) -> Option<String> {
    let expected = declared_sockets(declared);
    let mut text = String::new();
    for socket in expected.difference(bound) {
        writeln!(text, "  declared, not bound: {socket:?}").unwrap();
    }
    for socket in bound.difference(&expected) {
        if !(case.uncertain && declared.may_bind(socket.0, socket.1, socket.2)) {
            writeln!(text, "  bound, not declared: {socket:?}").unwrap();
        }
    }
    (!text.is_empty()).then_some(text)
}

fn stop(mut child: Child) {
    let pid = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    child.wait().unwrap();
}

/// Starts a case and compares. The error says what is wrong.
fn compare(case: &Case, real: &Real, scratch: &Path) -> Result<(), String> {
    let declared = read(&case.collected().files, &case.launch(real));
    if case.refused {
        let output = case.command(real).arg("-c").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return match (output.status.success(), declared.errors.is_empty()) {
            (false, false) => Ok(()),
            (true, _) => Err("HAProxy takes it\n".to_owned()),
            (false, true) => Err(format!("HAProxy refuses it, the reader does not:\n{said}")),
        };
    }
    if let Some(error) = declared.errors.first() {
        return Err(format!("the reader refuses it: {error:?}\n"));
    }
    if case.uncertain == declared.uncertain.is_empty() {
        return Err(format!("uncertain: {:?}\n", declared.uncertain));
    }
    let log = scratch.join(format!("{}-{}.log", case.name, real.branch));
    let file = std::fs::File::create(&log).unwrap();
    let mut child =
        case.command(real).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let started = Instant::now();
    let mut calm = 0;
    let outcome = loop {
        thread::sleep(Duration::from_millis(50));
        if child.try_wait().unwrap().is_some() {
            break Err(format!("it ended:\n{}", std::fs::read_to_string(&log).unwrap()));
        }
        let namespace = std::fs::read_link(format!("/proc/{}/ns/net", child.id()));
        if namespace.is_ok_and(|namespace| namespace == own) {
            continue;
        }
        let bound = bound_sockets(child.id(), case);
        match difference(case, &declared, &bound) {
            // HAProxy may be in the middle of its binds, so the sockets have to agree twice in a row.
            None if calm > 0 => break Ok(()),
            None => calm += 1,
            Some(text) => {
                calm = 0;
                if started.elapsed() > PATIENCE / 4 && !bound.is_empty() {
                    break Err(text);
                }
            }
        }
        if started.elapsed() > PATIENCE {
            break Err(format!("nothing bound:\n{}", std::fs::read_to_string(&log).unwrap()));
        }
    };
    stop(child);
    outcome
}

#[test]
fn reader_declares_what_haproxy_binds() {
    let scratch = tempfile::tempdir().unwrap();
    make_certificate(scratch.path());
    let cases = cases(scratch.path());
    let wanted = std::env::var("READER_CASE").unwrap_or_default();
    let failures: Vec<String> = thread::scope(|scope| {
        let versions: Vec<_> = REAL
            .iter()
            .map(|real| {
                let (cases, scratch, wanted) = (&cases, scratch.path(), &wanted);
                scope.spawn(move || {
                    let chosen = cases
                        .iter()
                        .filter(|case| case.is_for(real) && case.name.contains(wanted.as_str()));
                    let wrong = chosen.filter_map(|case| {
                        let wrong = compare(case, real, scratch).err()?;
                        Some(format!("{} on {}:\n{wrong}", case.name, real.branch))
                    });
                    wrong.collect::<Vec<_>>()
                })
            })
            .collect();
        versions.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}

fn make_certificate(scratch: &Path) {
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-subj", "/CN=reader", "-days", "2"])
        .args(["-keyout", "key.pem", "-out", "crt.pem"])
        .current_dir(scratch)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let mut both = std::fs::read(scratch.join("crt.pem")).unwrap();
    both.extend(std::fs::read(scratch.join("key.pem")).unwrap());
    std::fs::write(scratch.join("cert.pem"), both).unwrap();
}

/// HAProxy serves a socket that it is handed by number, and the reader declares that number.
#[test]
fn an_inherited_socket_is_known_by_its_number() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().to_owned();
    let text = "frontend web\n mode http\n timeout client 9s\n bind \"fd@$FD\"\n \
                http-request return status 204\n";
    std::fs::write(directory.join("fd.cfg"), text).unwrap();
    for real in REAL.iter() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&listener);
        let launch = Launch {
            environment: Some([("FD".to_owned(), number.to_string())].into()),
            version: Some(real.version),
            ..Launch::default()
        };
        let base = Base { directory: directory.clone(), ..Base::default() };
        let declared = read(&collect(&["fd.cfg".into()], &base).files, &launch);
        assert!(declared.listeners.is_empty() && declared.errors.is_empty(), "{declared:?}");
        assert_eq!(declared.inherited[0].fd, number);
        assert!(declared.may_bind(Protocol::Tcp, address.ip(), address.port()));

        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&real.program)
            .args(["-f", "fd.cfg"])
            .env("FD", number.to_string())
            .current_dir(&directory)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(listener);
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 204 "), "{}: {answer}", real.branch);
        stop(child);
    }
}
