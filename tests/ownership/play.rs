//! Random changes of what processes hold.

use std::collections::BTreeSet;
use std::fs;

use super::chance::Chance;
use super::stage::{Actor, MANY, Stage, reaped};

/// Below the ephemeral ports, so that UDP sockets there are listeners.
const FIRST_UDP_PORT: u32 = 20_000;

/// Processes, and what was changed in them so far.
pub struct Play {
    stage: Stage,
    pub chance: Chance,
    pub actors: Vec<Actor>,
    next_udp_port: u32,
    pub log: Vec<String>,
}

impl Play {
    /// Five processes with a listener each. Equal seeds play equally.
    pub fn new(seed: u64) -> Play {
        let mut stage = Stage::new();
        let actors = (0..5).map(|index| {
            let mut actor = stage.actor();
            if index % 2 == 0 {
                actor.command(MANY);
            }
            actor.listen("tcp");
            actor
        });
        let actors = actors.collect();
        let chance = Chance::new(seed);
        Play { stage, chance, actors, next_udp_port: FIRST_UDP_PORT, log: Vec::new() }
    }

    /// Changes one actor at random.
    pub fn step(&mut self) {
        let index = self.chance.below(self.actors.len());
        let act = self.chance.below(100);
        let pid = self.actors[index].pid;
        let listener = one_of(&self.actors[index].listeners, &mut self.chance);
        let done = match act {
            0..24 => Some(self.listen(index)),
            24..40 => listener.map(|number| self.double(index, &number)),
            40..62 => listener.map(|number| self.close(index, &number)),
            62..72 => self.pause_or_resume(index, listener),
            72..96 => listener.and_then(|number| self.hand_over(index, &number)),
            // Rarely: what is young is walked anyhow.
            _ if self.chance.below(3) > 0 => None,
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
        let how = &how[self.chance.below(3)];
        self.actors[index].listen(how);
        format!("listens: {how}")
    }

    fn double(&mut self, index: usize, number: &str) -> String {
        let actor = &mut self.actors[index];
        actor.listen(&format!("dup {number}"));
        if self.chance.below(2) == 0 {
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
        if let Some(number) = one_of(&self.actors[index].paused, &mut self.chance) {
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
        let to = self.chance.below(self.actors.len());
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
        if self.chance.below(2) == 0 {
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

fn one_of(all: &BTreeSet<String>, chance: &mut Chance) -> Option<String> {
    if all.is_empty() { None } else { all.iter().nth(chance.below(all.len())).cloned() }
}

fn is_tcp(pid: i32, number: &str) -> bool {
    let mut name = [0; 32];
    let path = format!("/proc/{pid}/fd/{number}");
    let length = rustix::fs::getxattr(path, "system.sockprotoname", &mut name).unwrap();
    name[..length].starts_with(b"TCP")
}
