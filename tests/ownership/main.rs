//! Compares the incremental ownership with a walk of everything, after each of many random changes.
//!
//! The tests run in namespaces of their own, so that pids can be reused and no other process is
//! seen.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code)] // of its ways to draw one is enough here
#[path = "../../src/judge/histories/chance.rs"]
mod chance;
mod play;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::process::Command;
use std::time::{Duration, Instant};

use haproxy_host_exporter::model::{Gaps, ProcessId, Snapshot, SocketInode};
use haproxy_host_exporter::sample::{Discovery, Paths, Sampler};
use play::Play;
use stage::{Actor, MANY, Stage, reap, reaped};
use support::{await_true, tool};

/// A process is young for 10 s, so most of the time most processes are not.
const DURATION: Duration = Duration::from_secs(40);

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

#[test]
fn never_other_than_a_walk() {
    const TEST: &str = "never_other_than_a_walk";
    if moved_out(TEST) {
        return;
    }
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() | 1);
    println!("SEED={seed}");
    let mut play = Play::new(seed);
    let mut incremental = sampler();
    let begun = Instant::now();
    let (mut compared, mut postponed) = (0, 0);
    while begun.elapsed() < DURATION {
        for _ in 0..=play.chance.below(3) {
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
