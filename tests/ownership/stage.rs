//! Processes that open, share and close sockets when told to, and are taken for HAProxys.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use haproxy_host_exporter::model::SocketInode;
use tempfile::TempDir;

use super::support::{await_true, copy_program};

/// Opens enough descriptors that only the listeners among them are verified.
pub const MANY: &str = "fill 100";

/// Where actors are made: a Python that is called haproxy.
pub struct Stage {
    directory: TempDir,
    made: u32,
}

/// A process that obeys commands about its sockets.
pub struct Actor {
    pub pid: i32,
    commands: Box<dyn std::io::Write>,
    answers: Box<dyn std::io::BufRead>,
    /// Its listeners: descriptors that are open, and those that are paused.
    pub listeners: BTreeSet<String>,
    pub paused: BTreeSet<String>,
}

impl Stage {
    pub fn new() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let actor = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/actor.py");
        fs::copy(actor, directory.path().join("sitecustomize.py")).unwrap();
        Stage { directory, made: 0 }
    }

    pub fn actor(&mut self) -> Actor {
        self.actor_called("haproxy")
    }

    #[allow(clippy::zombie_processes)] // `reap` waits for all there are
    pub fn actor_called(&mut self, name: &str) -> Actor {
        let program = self.directory.path().join(name);
        if !program.exists() {
            copy_program("/usr/bin/python3", &program);
        }
        let mut child = Command::new(program)
            .arg("-q")
            .env("PYTHONHOME", "/usr")
            .env("PYTHONPATH", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        let commands = Box::new(child.stdin.take().unwrap());
        let answers = Box::new(BufReader::new(child.stdout.take().unwrap()));
        Actor::ready(pid, commands, answers)
    }

    pub fn fork(&mut self, parent: &mut Actor) -> Actor {
        self.made += 1;
        let [commands, answers] = ["commands", "answers"]
            .map(|name| self.directory.path().join(format!("{name}-{}", self.made)));
        for fifo in [&commands, &answers] {
            assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
        }
        let pid = parent.command(&format!("fork {} {}", commands.display(), answers.display()));
        let commands = fs::File::options().write(true).open(commands).unwrap();
        let answers = BufReader::new(fs::File::open(answers).unwrap());
        let mut child = Actor::ready(pid.parse().unwrap(), Box::new(commands), Box::new(answers));
        child.listeners.clone_from(&parent.listeners);
        child.paused.clone_from(&parent.paused);
        child
    }
}

impl Actor {
    fn ready(
        pid: i32,
        commands: Box<dyn std::io::Write>,
        answers: Box<dyn std::io::BufRead>,
    ) -> Actor {
        let (listeners, paused) = (BTreeSet::new(), BTreeSet::new());
        let mut actor = Actor { pid, commands, answers, listeners, paused };
        assert_eq!(actor.answer(), "ready");
        actor
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn command(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.commands.flush().unwrap();
        let answer = self.answer();
        assert!(!answer.is_empty(), "{} did not survive {command:?}", self.pid);
        answer
    }

    pub fn listen(&mut self, how: &str) {
        let number = self.command(how);
        self.listeners.insert(number);
    }

    pub fn close(&mut self, number: &str) {
        self.command(&format!("close {number}"));
        self.listeners.remove(number);
        self.paused.remove(number);
    }

    /// Hands a listener over, and keeps it.
    pub fn share(&mut self, number: &str, receiver: &mut Actor) {
        self.command(&format!("send {number} {}", receiver.pid));
        receiver.listen("receive");
    }

    pub fn only_listener(&self) -> String {
        assert_eq!(self.listeners.len(), 1);
        self.listeners.first().unwrap().clone()
    }

    pub fn inode(&self, number: &str) -> Option<SocketInode> {
        Some(fs::metadata(format!("/proc/{}/fd/{number}", self.pid)).ok()?.ino())
    }
}

/// Reaps orphans, which is the duty of the first process of a pid namespace.
pub fn reap() {
    use rustix::process::{WaitOptions, wait};
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

pub fn reaped(actor: Actor) {
    let directory = PathBuf::from(format!("/proc/{}", actor.pid));
    drop(actor);
    await_true("the end of an actor", || {
        reap();
        !directory.exists()
    });
}
