//! Compares the incremental ownership with a walk of everything, after each of many random changes.
//!
//! The tests run in namespaces of their own, so that pids can be reused and no other process is
//! seen.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use haproxy_host_exporter::model::{Gaps, ProcessId, Snapshot, SocketInode};
use haproxy_host_exporter::sample::{Discovery, Paths, Sampler};
use support::{await_true, copy_program, tool};
use tempfile::TempDir;

/// A process is young for 10 s, so most of the time most processes are not.
const DURATION: Duration = Duration::from_secs(40);
/// Opens enough descriptors that only the listeners among them are verified.
const MANY: &str = "fill 100";
/// Below the ephemeral ports, so that UDP sockets there are listeners.
const FIRST_UDP_PORT: u32 = 20_000;

/// Runs the test of this name again in new namespaces and returns `true`; returns `false` there.
fn moved_out(test: &str) -> bool {
    const STAGE: &str = "OWNERSHIP_STAGE";
    if std::env::var_os(STAGE).is_some() {
        assert!(
            Command::new(tool("ip")).args(["link", "set", "lo", "up"]).status().unwrap().success()
        );
        return false;
    }
    let status = Command::new(tool("unshare"))
        .args(["--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(STAGE, "")
        .status()
        .unwrap();
    assert!(status.success());
    true
}

/// Where actors are made: a Python that is called haproxy.
struct Stage {
    directory: TempDir,
    made: u32,
}

/// A process that obeys commands about its sockets.
struct Actor {
    pid: i32,
    commands: Box<dyn std::io::Write>,
    answers: Box<dyn std::io::BufRead>,
    /// Its listeners: descriptors that are open, and those that are paused.
    listeners: BTreeSet<String>,
    paused: BTreeSet<String>,
}

impl Stage {
    fn new() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let actor = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/actor.py");
        fs::copy(actor, directory.path().join("sitecustomize.py")).unwrap();
        Stage { directory, made: 0 }
    }

    fn actor(&mut self) -> Actor {
        self.actor_called("haproxy")
    }

    #[allow(clippy::zombie_processes)] // `reap` waits for all there are
    fn actor_called(&mut self, name: &str) -> Actor {
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

    fn fork(&mut self, parent: &mut Actor) -> Actor {
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

    fn command(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.commands.flush().unwrap();
        let answer = self.answer();
        assert!(!answer.is_empty(), "{} did not survive {command:?}", self.pid);
        answer
    }

    fn listen(&mut self, how: &str) {
        let number = self.command(how);
        self.listeners.insert(number);
    }

    fn close(&mut self, number: &str) {
        self.command(&format!("close {number}"));
        self.listeners.remove(number);
        self.paused.remove(number);
    }

    /// Hands a listener over, and keeps it.
    fn share(&mut self, number: &str, receiver: &mut Actor) {
        self.command(&format!("send {number} {}", receiver.pid));
        receiver.listen("receive");
    }

    fn only_listener(&self) -> String {
        assert_eq!(self.listeners.len(), 1);
        self.listeners.first().unwrap().clone()
    }

    fn inode(&self, number: &str) -> Option<SocketInode> {
        Some(fs::metadata(format!("/proc/{}/fd/{number}", self.pid)).ok()?.ino())
    }
}

/// Random numbers that are the same for the same seed (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn of<'a>(&mut self, all: &'a BTreeSet<String>) -> Option<&'a String> {
        if all.is_empty() { None } else { all.iter().nth(self.below(all.len())) }
    }
}

fn sampler() -> Sampler {
    let paths = Paths { procfs: "/proc".into(), sysfs: "/sys".into() };
    Sampler::new(paths, Discovery::default()).unwrap()
}

/// Takes a sample as a look at the host does: again while a gap is likely to close.
fn take(sampler: &mut Sampler) -> Snapshot {
    let mut snapshot = sampler.sample();
    for _ in 0..7 {
        if !snapshot.gaps.may_close_at_once() {
            break;
        }
        snapshot = sampler.sample();
    }
    sampler.accept(&snapshot);
    snapshot
}

/// The sockets in the tables that each process holds.
fn held(snapshot: &Snapshot) -> BTreeMap<ProcessId, BTreeSet<SocketInode>> {
    let tables = snapshot.networks.values();
    let listed: BTreeSet<SocketInode> = tables
        .flat_map(|network| {
            let unix = network.unix_listeners.iter().flatten().copied();
            unix.chain(network.bound.iter().flatten().map(|socket| socket.inode))
        })
        .collect();
    let held = snapshot.processes.iter().map(|process| {
        let sockets = process.sockets.as_ref().unwrap_or_else(|| panic!("{process:?} is unread"));
        (process.id, sockets.intersection(&listed).copied().collect())
    });
    held.collect()
}

/// The same without those whose holders another sample has not searched for.
fn held_of_searched(
    snapshot: &Snapshot,
    other: &Snapshot,
) -> BTreeMap<ProcessId, BTreeSet<SocketInode>> {
    let mut all = held(snapshot);
    for held in all.values_mut() {
        held.retain(|inode| !other.gaps.unsearched.contains(inode));
    }
    all
}

/// Reaps orphans, which is the duty of the first process of a pid namespace.
fn reap() {
    use rustix::process::{WaitOptions, wait};
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

fn reaped(actor: Actor) {
    let directory = PathBuf::from(format!("/proc/{}", actor.pid));
    drop(actor);
    await_true("the end of an actor", || {
        reap();
        !directory.exists()
    });
}

struct Play {
    stage: Stage,
    dice: Dice,
    actors: Vec<Actor>,
    next_udp_port: u32,
    log: Vec<String>,
}

impl Play {
    /// Changes one actor at random.
    fn step(&mut self) {
        let index = self.dice.below(self.actors.len());
        let act = self.dice.below(100);
        let pid = self.actors[index].pid;
        let listener = self.dice.of(&self.actors[index].listeners).cloned();
        let done = match act {
            0..24 => Some(self.listen(index)),
            24..40 => listener.map(|number| self.double(index, &number)),
            40..62 => listener.map(|number| self.close(index, &number)),
            62..72 => self.pause_or_resume(index, listener),
            72..96 => listener.and_then(|number| self.hand_over(index, &number)),
            // Rarely: what is young is walked anyhow.
            _ if self.dice.below(3) > 0 => None,
            96 => Some(self.fork(index)),
            97 => Some(self.execute(index)),
            98 => Some(self.replace(index)),
            _ => self.share_with_a_newcomer(index, listener.as_ref()),
        };
        if let Some(done) = done {
            self.log.push(format!("{pid} {done}"));
        }
    }

    fn listen(&mut self, index: usize) -> String {
        self.next_udp_port += 1;
        let how = ["tcp".to_owned(), format!("udp {}", self.next_udp_port), "unix".to_owned()];
        let how = &how[self.dice.below(3)];
        self.actors[index].listen(how);
        format!("listens: {how}")
    }

    fn double(&mut self, index: usize, number: &str) -> String {
        let actor = &mut self.actors[index];
        actor.listen(&format!("dup {number}"));
        if self.dice.below(2) == 0 {
            return format!("duplicates {number}");
        }
        actor.close(number);
        format!("moves {number}")
    }

    fn close(&mut self, index: usize, number: &str) -> String {
        self.actors[index].close(number);
        format!("closes {number}")
    }

    /// Pauses only a listener that no other actor holds, because it is paused for all of them.
    fn pause_or_resume(&mut self, index: usize, listener: Option<String>) -> Option<String> {
        if let Some(number) = self.dice.of(&self.actors[index].paused).cloned() {
            let actor = &mut self.actors[index];
            actor.command(&format!("resume {number}"));
            actor.paused.remove(&number);
            actor.listeners.insert(number.clone());
            return Some(format!("resumes {number}"));
        }
        let number = listener?;
        let actor = &mut self.actors[index];
        // UDP and unix sockets cannot be.
        if !is_tcp(actor.pid, &number) {
            return None;
        }
        actor.command(&format!("pause {number}"));
        actor.listeners.remove(&number);
        actor.paused.insert(number.clone());
        Some(format!("pauses {number}"))
    }

    /// Gives away a listener that no other actor holds. (One that its giver keeps is found by an
    /// old process's turn only.)
    fn hand_over(&mut self, index: usize, number: &str) -> Option<String> {
        let to = self.dice.below(self.actors.len());
        let shared = |actors: &[Actor]| {
            let given = actors[index].inode(number);
            let same = actors.iter().flat_map(|actor| {
                let all = actor.listeners.iter().chain(&actor.paused);
                all.filter(|number| actor.inode(number) == given).collect::<Vec<_>>()
            });
            same.count() > 1
        };
        if to == index || shared(&self.actors) {
            return None;
        }
        let receiver = self.actors[to].pid;
        self.actors[index].command(&format!("send {number} {receiver}"));
        self.actors[index].close(number);
        self.actors[to].listen("receive");
        Some(format!("gives {number} to {receiver}"))
    }

    fn fork(&mut self, index: usize) -> String {
        if self.actors.len() > 7 {
            reaped(self.actors.swap_remove(index));
            return "ends".to_owned();
        }
        let child = self.stage.fork(&mut self.actors[index]);
        let pid = child.pid;
        self.actors.push(child);
        format!("forks {pid}")
    }

    fn execute(&mut self, index: usize) -> String {
        let actor = &mut self.actors[index];
        assert_eq!(actor.command("execute"), "ready");
        actor.command(MANY);
        "executes itself".to_owned()
    }

    /// Another process with the same pid.
    fn replace(&mut self, index: usize) -> String {
        let old = self.actors.swap_remove(index);
        let pid = old.pid;
        reaped(old);
        let before = (pid - 1).to_string();
        fs::write("/proc/sys/kernel/ns_last_pid", before).unwrap();
        let mut new = self.stage.actor();
        if self.dice.below(2) == 0 {
            new.command(MANY);
        }
        let same = if new.pid == pid { "the same pid" } else { "another pid" };
        new.listen("tcp");
        self.actors.push(new);
        format!("is replaced by one with {same}")
    }

    /// As at a reload: a process that starts is handed listeners that the old one keeps.
    fn share_with_a_newcomer(&mut self, index: usize, listener: Option<&String>) -> Option<String> {
        if self.actors.len() > 7 {
            return None;
        }
        let mut new = self.stage.actor();
        let pid = new.pid;
        new.command(MANY);
        if let Some(number) = listener {
            self.actors[index].command(&format!("send {number} {pid}"));
            new.listen("receive");
        }
        self.actors.push(new);
        Some(format!("shares {listener:?} with a new {pid}"))
    }
}

fn is_tcp(pid: i32, number: &str) -> bool {
    let mut name = [0; 32];
    let path = format!("/proc/{pid}/fd/{number}");
    let length = rustix::fs::getxattr(path, "system.sockprotoname", &mut name).unwrap();
    name[..length].starts_with(b"TCP")
}

#[test]
fn never_other_than_a_walk() {
    const TEST: &str = "never_other_than_a_walk";
    if moved_out(TEST) {
        return;
    }
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() | 1);
    println!("SEED={seed}");
    let mut stage = Stage::new();
    let actors = (0..5).map(|_| stage.actor()).collect();
    let dice = Dice(seed);
    let mut play = Play { stage, dice, actors, next_udp_port: FIRST_UDP_PORT, log: Vec::new() };
    for (index, actor) in play.actors.iter_mut().enumerate() {
        if index % 2 == 0 {
            actor.command(MANY);
        }
        actor.listen("tcp");
    }
    let mut incremental = sampler();
    let begun = Instant::now();
    let (mut compared, mut postponed) = (0, 0);
    while begun.elapsed() < DURATION {
        for _ in 0..=play.dice.below(3) {
            play.step();
        }
        reap();
        let (kept, walked) = (take(&mut incremental), take(&mut sampler()));
        // On a machine that stalls a search seems expensive, and later ones are postponed.
        postponed += usize::from(!kept.gaps.unsearched.is_empty());
        assert_eq!(
            held_of_searched(&kept, &kept),
            held_of_searched(&walked, &kept),
            "SEED={seed}, after {compared} samples and\n{}",
            play.log[play.log.len().saturating_sub(20)..].join("\n")
        );
        assert_eq!(walked.processes.len(), play.actors.len());
        compared += 1;
    }
    println!("{compared} samples compared, {} changes, {postponed} postponed", play.log.len());
    assert!(compared > 50, "only {compared} samples in {DURATION:?}");
    assert!(postponed < compared / 2, "a search was postponed in {postponed} of {compared}");
}

/// HAProxy takes listeners only while it starts. When one is handed to an old process and the giver
/// keeps it, only the walk of that process in its turn shows it.
#[test]
fn a_late_gift_is_found_in_its_turn() {
    const TEST: &str = "a_late_gift_is_found_in_its_turn";
    if moved_out(TEST) {
        return;
    }
    let mut stage = Stage::new();
    let (mut giver, mut receiver, mut incremental) = two_old_ones(&mut stage);
    giver.share(&giver.only_listener(), &mut receiver);
    let since = Instant::now();
    while holds(&take(&mut incremental), receiver.pid) != 2 {
        assert!(since.elapsed() < Duration::from_secs(90), "its turn did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The listener was the giver's, and the giver runs another program now, so another process has it.
#[test]
fn a_gift_of_one_that_executes_itself_is_found_at_once() {
    const TEST: &str = "a_gift_of_one_that_executes_itself_is_found_at_once";
    if moved_out(TEST) {
        return;
    }
    let mut stage = Stage::new();
    let (mut giver, mut receiver, mut incremental) = two_old_ones(&mut stage);
    let number = giver.only_listener();
    giver.share(&number, &mut receiver);
    giver.close(&number);
    assert_eq!(giver.command("execute"), "ready");
    assert_eq!(holds(&take(&mut incremental), receiver.pid), 2);
}

/// No table lists the listener when it is handed over, nor when its holder is walked.
#[test]
fn a_listener_shared_while_paused_is_found_when_it_listens_again() {
    const TEST: &str = "a_listener_shared_while_paused_is_found_when_it_listens_again";
    if moved_out(TEST) {
        return;
    }
    let mut stage = Stage::new();
    let (mut giver, mut receiver, mut incremental) = two_old_ones(&mut stage);
    let number = giver.only_listener();
    giver.command(&format!("pause {number}"));
    assert_eq!(holds(&take(&mut incremental), giver.pid), 0);
    giver.share(&number, &mut receiver);
    assert_eq!(holds(&take(&mut incremental), receiver.pid), 1);
    giver.command(&format!("resume {number}"));
    let resumed = take(&mut incremental);
    assert_eq!([giver.pid, receiver.pid].map(|pid| holds(&resumed, pid)), [1, 2]);
}

/// Another program's listener is not searched for again, until it is found to block a port.
#[test]
fn a_holder_that_a_port_search_finds_is_walked() {
    const TEST: &str = "a_holder_that_a_port_search_finds_is_walked";
    if moved_out(TEST) {
        return;
    }
    let mut stage = Stage::new();
    let mut stranger = stage.actor_called("stranger");
    stranger.listen("tcp");
    let (_other, mut receiver, mut incremental) = two_old_ones(&mut stage);
    let number = stranger.only_listener();
    let given = stranger.inode(&number).unwrap();
    let snapshot = take(&mut incremental);
    stranger.share(&number, &mut receiver);
    let network = snapshot.own_network.unwrap();
    let bound = snapshot.networks[&network].bound.as_ref().unwrap();
    let port = bound.iter().find(|socket| socket.inode == given).unwrap().port;
    let asked = BTreeMap::from([(network, BTreeSet::from([port]))]);
    let details = incremental.details(&snapshot, &BTreeSet::new(), &asked);
    let holders: Vec<_> = details.held.iter().map(|(inode, id)| (*inode, id.pid)).collect();
    assert_eq!(holders, [(given, receiver.pid)]);
    assert_eq!(holds(&take(&mut incremental), receiver.pid), 2);
}

/// Searches take a share of a processor at most. What is unknown meanwhile is in the gaps.
#[test]
fn a_search_over_its_budget_is_postponed_and_made_up_for() {
    const TEST: &str = "a_search_over_its_budget_is_postponed_and_made_up_for";
    if moved_out(TEST) {
        return;
    }
    let mut stage = Stage::new();
    let _busy = busy_ones(&mut stage);
    let (mut giver, mut receiver, mut incremental) = two_old_ones(&mut stage);
    let inode = give_secretly(&mut giver, &mut receiver, &mut incremental);
    let since = Instant::now();
    let mut snapshot = take(&mut incremental);
    assert_eq!(snapshot.gaps.unsearched, BTreeSet::from([inode]));
    while !snapshot.gaps.unsearched.is_empty() {
        // Unless it was walked for another reason.
        let is_found = holds(&snapshot, receiver.pid) == 2;
        let lost: Vec<SocketInode> = snapshot.gaps.lost.keys().copied().collect();
        assert_eq!(lost, if is_found { vec![] } else { vec![inode] });
        assert!(snapshot.gaps.last_holders().all(|id| id.pid == giver.pid));
        assert!(since.elapsed() < Duration::from_secs(90), "it was never searched for");
        std::thread::sleep(Duration::from_millis(50));
        snapshot = take(&mut incremental);
    }
    assert!(snapshot.gaps.lost.is_empty());
    assert_eq!(holds(&snapshot, receiver.pid), 2);
}

/// The processes that made the last search expensive have ended since.
#[test]
fn an_expensive_search_postpones_no_cheap_one() {
    const TEST: &str = "an_expensive_search_postpones_no_cheap_one";
    if moved_out(TEST) {
        return;
    }
    let mut stage = Stage::new();
    let busy = busy_ones(&mut stage);
    let (mut giver, mut receiver, mut incremental) = two_old_ones(&mut stage);
    let inode = give_secretly(&mut giver, &mut receiver, &mut incremental);
    assert_eq!(take(&mut incremental).gaps.unsearched, BTreeSet::from([inode]));
    busy.into_iter().for_each(reaped);
    let snapshot = take(&mut incremental);
    assert_eq!(snapshot.gaps.unsearched, BTreeSet::new());
    assert_eq!(holds(&snapshot, receiver.pid), 2);
}

/// The search for a holder among the HAProxys is over. The process may be one that has not been
/// recognised, so its listener is lost for one sample, and only to the process that held it.
#[test]
fn a_listener_that_only_another_program_holds_is_lost_for_one_sample() {
    const TEST: &str = "a_listener_that_only_another_program_holds_is_lost_for_one_sample";
    if moved_out(TEST) {
        return;
    }
    let mut stage = Stage::new();
    let mut stranger = stage.actor_called("stranger");
    let mut giver = stage.actor();
    giver.listen("tcp");
    let mut incremental = sampler();
    let before = take(&mut incremental);
    assert_eq!(holds(&before, giver.pid), 1);
    let number = giver.only_listener();
    let inode = giver.inode(&number).unwrap();
    giver.share(&number, &mut stranger);
    giver.close(&number);
    let id = before.processes.iter().map(|process| process.id).find(|id| id.pid == giver.pid);
    let gaps = take(&mut incremental).gaps;
    assert_eq!(gaps.lost, BTreeMap::from([(inode, BTreeSet::from([id.unwrap()]))]));
    assert!(!gaps.torn && gaps.unsearched.is_empty());
    assert_eq!(take(&mut incremental).gaps, Gaps::default());
}

/// Processes with so many descriptors that a walk of all of them is over the budget of searches.
fn busy_ones(stage: &mut Stage) -> Vec<Actor> {
    let busy = [(); 6].map(|()| {
        let mut actor = stage.actor();
        actor.command("fill 9000");
        actor
    });
    busy.into()
}

/// Waits until every process is walked, and then hands a listener over in a way that only a search shows.
fn give_secretly(
    giver: &mut Actor,
    receiver: &mut Actor,
    incremental: &mut Sampler,
) -> SocketInode {
    giver.listen("unix");
    let searched = take(incremental);
    assert_eq!(searched.gaps.unsearched, BTreeSet::new());
    assert_eq!(holds(&searched, giver.pid), 2);
    let number = giver.listeners.first().unwrap().clone();
    let inode = giver.inode(&number).unwrap();
    giver.share(&number, receiver);
    giver.close(&number);
    inode
}

/// Two processes with a listener each and many descriptors, which are not young any more.
fn two_old_ones(stage: &mut Stage) -> (Actor, Actor, Sampler) {
    let mut incremental = sampler();
    let actors = [stage.actor(), stage.actor()].map(|mut actor| {
        actor.command(MANY);
        actor.listen("tcp");
        actor
    });
    let born = Instant::now();
    take(&mut incremental);
    await_true("old age", || born.elapsed() > Duration::from_secs(12));
    let snapshot = take(&mut incremental);
    assert!(actors.iter().all(|actor| holds(&snapshot, actor.pid) == 1));
    let [giver, receiver] = actors;
    (giver, receiver, incremental)
}

/// The number of listeners that a process holds.
fn holds(snapshot: &Snapshot, pid: i32) -> usize {
    let held = held(snapshot);
    held.into_iter().find(|(id, _)| id.pid == pid).map_or(0, |(_, sockets)| sockets.len())
}
