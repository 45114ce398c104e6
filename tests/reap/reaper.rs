//! Runs `reap` in a bed and reads what it says.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::*;

/// A policy whose every patience is short enough to be waited for.
pub const IMPATIENT: &str = "defaults:
  stale_grace: 1s
  reap: {listening: 0s, idle: 0s, step_grace: 1s, last_signal: KILL, max_per_run: 100,
         max_per_hour: 100, max_share: 100%}
";

/// A reaper with a policy, and places for its records.
pub struct Reaper<'b> {
    pub bed: &'b Bed,
    pub policy: PathBuf,
    pub state: PathBuf,
    pub off: PathBuf,
    pub audit: PathBuf,
}

impl<'b> Reaper<'b> {
    pub fn new(bed: &'b Bed, policy: &str) -> Self {
        // A directory that only root can change all the way up, as /run is on a host.
        let place = PathBuf::from(bed.shell("mktemp -d -p /run reap.XXXXXX").trim());
        Self {
            bed,
            policy: bed.write("reap.yaml", policy),
            state: place.join("state/reap.json"),
            off: place.join("off"),
            audit: place.join("audit.log"),
        }
    }

    /// Its command line after the binary.
    pub fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let flags = [
            ("--config.file", path(&self.policy)),
            ("--reap.state-file", path(&self.state)),
            ("--reap.off-file", path(&self.off)),
            ("--audit-log", path(&self.audit)),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let more = more.iter().map(|word| (*word).to_owned());
        ["reap".to_owned()].into_iter().chain(flags).chain(more).collect()
    }

    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = self.bed.command(Exporter::binary());
        command.args(self.arguments(more));
        command
    }

    /// Runs it to its end.
    pub fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// Runs it and reads its JSON; also gives the exit code.
    #[track_caller]
    pub fn json(&self, more: &[&str]) -> (Value, i32) {
        let output = self.run(&[&["--output", "json"], more].concat());
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("reap: {error}\n{}\n{}", text(&output.stdout), text(&output.stderr))
        });
        schema::assert_fits("reap", &json);
        (json, output.status.code().unwrap_or(-1))
    }

    /// Starts it with `--watch` and waits for its first round.
    pub fn watch(&self, more: &[&str]) -> Running {
        let words = [&["--watch", "--sample.interval", "200ms"], more].concat();
        let running = self.bed.start(self.command(&words), "reap.log");
        let before = self.rounds();
        await_true("a round of the reaper", || self.rounds() > before);
        running
    }

    /// When the last round ended; 0 before the first.
    pub fn rounds(&self) -> f64 {
        let state = fs::read(&self.state).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let state: Value = state.unwrap_or_default();
        state["last_run"]["timestamp"].as_f64().unwrap_or_default()
    }

    /// Waits for this number of rounds of a watching reaper.
    pub fn await_rounds(&self, count: usize) {
        for _ in 0..count {
            let before = self.rounds();
            await_true("a round of the reaper", || self.rounds() > before);
        }
    }

    /// The lines of the audit.
    #[track_caller]
    pub fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.audit).unwrap_or_default();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            schema::assert_fits("reap-audit", line);
        }
        lines
    }

    /// The signals that were announced, and what came of them, in order: `USR1 7`, `ended 7`.
    pub fn story(&self) -> Vec<String> {
        let line = |line: &Value| {
            let word = match line["event"].as_str() {
                Some("intent") => line["signal"].as_str(),
                _ => line["result"].as_str(),
            };
            format!("{} {}", word.unwrap(), line["pid"])
        };
        self.audit().iter().map(line).collect()
    }
}

impl Drop for Reaper<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.state.parent().and_then(|place| place.parent()).unwrap());
    }
}

/// The entries of one kind, of every service: `steps`, `held` or `waiting`.
pub fn entries(json: &Value, kind: &str) -> Vec<Value> {
    let services = json["haproxys"].as_array().unwrap();
    services.iter().flat_map(|service| service[kind].as_array().unwrap().clone()).collect()
}

/// What each entry says with a key, such as its `hold`.
pub fn each<'a>(entries: &'a [Value], key: &str) -> Vec<&'a str> {
    entries.iter().map(|entry| entry[key].as_str().unwrap_or("-")).collect()
}
