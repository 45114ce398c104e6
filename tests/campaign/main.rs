//! The campaign: random histories of many services on one host, and an exporter whose every page is
//! compared with which process answers.
//!
//! `CAMPAIGN_SECONDS` and `CAMPAIGN_SEED` change its length and its draws; `tests/campaign/run` is the
//! long form. From ten minutes on it goes on until every combination was drawn and every version and mode
//! saw two hundred reloads, and fails when that takes more than four times as long.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // counts on a page are small whole numbers

#[path = "../support/mod.rs"]
mod support;

#[path = "../../src/judge/histories/chance.rs"]
mod chance;
#[path = "../../src/judge/histories/current.rs"]
mod current;

mod actor;
mod compare;
mod epoch;
mod mode;
mod tally;
mod truth;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::*;

use actor::Actor;
use chance::Chance;
use compare::{Look, compare};
use epoch::Epoch;
use mode::{Act, Mode};
use tally::{Fault, Tally};
use truth::Truth;

/// A campaign at least this long has to draw every combination.
const LONG: Duration = Duration::from_secs(600);

/// Reloads for each version and mode in a long campaign.
const ENOUGH: usize = 200;

/// A long campaign goes on until it has them all, for at most this many times its length.
const MOST_LENGTHS: u32 = 4;

/// The number of samples after which the exporter has judged and confirmed the last act.
const SETTLED_SAMPLES: usize = 3;

/// The world of a campaign, shared by its threads.
struct Stage<'b> {
    bed: &'b Bed,
    actors: Vec<Actor<'b>>,
    truth: Truth,
    tally: Tally,
    epoch: Mutex<Option<Epoch>>,
    over: AtomicBool,
    resting: AtomicBool,
    at_rest: AtomicUsize,
}

#[test]
fn campaign() {
    let seconds = number("CAMPAIGN_SECONDS").unwrap_or(60);
    let length = Duration::from_secs(seconds);
    let seed = number("CAMPAIGN_SEED").unwrap_or_else(|| now().to_bits());
    println!("CAMPAIGN_SECONDS={seconds} CAMPAIGN_SEED={seed}");
    let bed = Bed::new();
    bed.shell("mkdir -p /run/netns && mount -t tmpfs none /run/netns");
    let stage = Stage::new(&bed, length >= LONG, seed);
    stage.start_all(seed);
    stage.play(length, seed);
    let report = stage.tally.report(&stage.actors);
    println!("{report}");
    assert!(stage.tally.is_clean(), "seed {seed}:\n{report}");
    if length >= LONG && only().is_none() {
        let missing = stage.tally.missing(&tally::versions(&stage.actors));
        assert!(missing.is_empty(), "never drawn: {}", missing.join(", "));
        for ((version, mode), reloads) in tally::reloads(&stage.actors) {
            assert!(reloads >= ENOUGH, "{} {}: {reloads} reloads", version.name(), mode.name());
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The services to play, if not all: a version and a mode, as in `CAMPAIGN_ONLY="3.0 W"`.
fn only() -> Option<String> {
    std::env::var("CAMPAIGN_ONLY").ok()
}

/// The time, in Unix seconds.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

impl<'b> Stage<'b> {
    fn new(bed: &'b Bed, long: bool, seed: u64) -> Self {
        let mut cast: Vec<(Version, Mode)> = Vec::new();
        let all = long || only().is_some();
        for (place, mode) in Mode::ALL.into_iter().enumerate() {
            let versions = Version::ALL.into_iter().filter(|version| mode.exists(*version));
            let versions: Vec<Version> = versions.collect();
            // The short form has one version of each mode, another with each seed.
            let one = Chance::new(seed ^ place as u64).one(&versions);
            for version in versions.into_iter().filter(|version| all || *version == one) {
                cast.push((version, mode));
                if mode == Mode::Twin {
                    cast.push((version, mode));
                }
            }
        }
        if let Some(only) = only() {
            cast.retain(|(version, mode)| only == format!("{} {}", version.name(), mode.name()));
        }
        assert!(!cast.is_empty(), "CAMPAIGN_ONLY names no version and mode");
        let actors: Vec<Actor<'b>> = cast
            .into_iter()
            .enumerate()
            .map(|(index, (version, mode))| Actor::new(bed, index, version, mode))
            .collect();
        Self {
            bed,
            truth: Truth::new(actors.len()),
            actors,
            tally: Tally::default(),
            epoch: Mutex::default(),
            over: AtomicBool::new(false),
            resting: AtomicBool::new(true),
            at_rest: AtomicUsize::new(0),
        }
    }

    fn start_all(&self, seed: u64) {
        for (index, actor) in self.actors.iter().enumerate() {
            actor.start(&mut Chance::new(seed ^ index as u64));
        }
    }

    fn play(&self, length: Duration, seed: u64) {
        std::thread::scope(|scope| {
            for (index, actor) in self.actors.iter().enumerate() {
                let chance = Chance::new(seed.rotate_left(17) ^ index as u64);
                scope.spawn(move || self.disturb(actor, chance));
            }
            scope.spawn(|| self.watch());
            scope.spawn(|| self.inspect());
            scope.spawn(|| self.lie(Chance::new(seed.rotate_left(33))));
            self.direct(length, Chance::new(seed));
            self.over.store(true, Ordering::SeqCst);
        });
    }

    /// One exporter after the other, begun while the services rest or in the middle of their work.
    fn direct(&self, length: Duration, mut chance: Chance) {
        let begun = Instant::now();
        let last = if length >= LONG { MOST_LENGTHS } else { 1 };
        let end = begun + last * length;
        for round in 0.. {
            if Instant::now() > end || (begun.elapsed() > length && self.has_enough()) {
                break;
            }
            *self.epoch.lock().unwrap() = Some(Epoch::begin(self.bed, &self.actors, true));
            self.resting.store(false, Ordering::SeqCst);
            Self::wait(end, 10 + chance.below(20));
            // The counters of an exporter that began in the middle cannot be compared.
            if round % 2 == 1 {
                // The address has to be free again before the next one is started.
                let mut epoch = self.epoch.lock().unwrap();
                drop(epoch.take());
                *epoch = Some(Epoch::begin(self.bed, &self.actors, false));
                drop(epoch);
                self.tally.restarted();
                Self::wait(end, 5 + chance.below(10));
            }
            self.rest();
            let epoch = self.epoch.lock().unwrap().take().unwrap();
            let answers = self.truth.ask(&self.actors);
            epoch.end(self.bed, &self.actors, &answers, &self.tally);
            self.tally.restarted();
        }
    }

    /// Everything was drawn, and every version and mode was reloaded often enough.
    fn has_enough(&self) -> bool {
        let versions = tally::versions(&self.actors);
        tally::reloads(&self.actors).values().all(|reloads| *reloads >= ENOUGH)
            && self.tally.missing(&versions).is_empty()
    }

    fn wait(end: Instant, seconds: usize) {
        let until = Instant::now() + Duration::from_secs(seconds as u64);
        while Instant::now() < until.min(end) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Lets every service finish its act, and gives the exporter the time for what came last.
    fn rest(&self) {
        self.at_rest.store(0, Ordering::SeqCst);
        self.resting.store(true, Ordering::SeqCst);
        let patience = Instant::now() + 4 * PATIENCE;
        while self.at_rest.load(Ordering::SeqCst) < self.actors.len() {
            assert!(Instant::now() < patience, "a service does not come to rest");
            std::thread::sleep(Duration::from_millis(20));
        }
        // The exporter has judged the last act after a few more samples, however long one takes here.
        for _ in 0..SETTLED_SAMPLES {
            let now = now();
            await_within(4 * PATIENCE, "a new sample", || {
                Epoch::view(self.bed).filter(|view| view.taken > now)
            });
        }
    }

    fn disturb(&self, actor: &Actor<'_>, mut chance: Chance) {
        while !self.over.load(Ordering::SeqCst) {
            if self.resting.load(Ordering::SeqCst) {
                self.at_rest.fetch_add(1, Ordering::SeqCst);
                while self.resting.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                continue;
            }
            let act = chance.weighted(&Act::WEIGHTS);
            self.tally.drawn(actor.version, actor.mode, act);
            actor.act(act, &mut chance);
            let pause = chance.one(&[0, 0, 100, 300, 700, 1500, 3000]);
            std::thread::sleep(Duration::from_millis(pause));
        }
    }

    /// Compares page after page.
    fn watch(&self) {
        let mut taken = [f64::NEG_INFINITY; 3];
        while !self.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
            let before = self.truth.ask(&self.actors);
            let epoch = self.epoch.lock().unwrap();
            let Some(epoch) = epoch.as_ref() else { continue };
            let Some(view) = Epoch::view(self.bed).filter(|view| view.taken > taken[0]) else {
                continue;
            };
            // An exporter that has just begun has no earlier samples.
            let begun = if epoch.since > taken[0] { [f64::NEG_INFINITY; 3] } else { taken };
            taken = [view.taken, begun[0], begun[1]];
            let after = self.truth.ask(&self.actors);
            epoch.saw(&view, &after);
            let (before, after) = (&before[..], &after[..]);
            let look = Look { view: &view, epoch: Some(epoch), before, after, settled: taken[2] };
            compare(&look, &self.actors, &self.truth, self.bed, &self.tally);
        }
    }

    /// Compares what a fresh `inspect` says, again and again.
    fn inspect(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let before = self.truth.ask(&self.actors);
            let settled = now();
            let mut command = self.bed.command("nice");
            command
                .args(["-n", "-10"])
                .arg(Exporter::binary())
                .args(["inspect", "--output", "json"]);
            let output = command.output().unwrap();
            let after = self.truth.ask(&self.actors);
            let json = serde_json::from_slice(&output.stdout);
            let view = View::read(&json.unwrap_or_else(|_| panic!("{}", text(&output.stderr))));
            let (before, after) = (&before[..], &after[..]);
            let look = Look { view: &view, epoch: None, before, after, settled };
            compare(&look, &self.actors, &self.truth, self.bed, &self.tally);
            self.plan_to_reap();
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    /// Lets `reap` plan by a policy without patience, and compares what it would signal with who answers.
    fn plan_to_reap(&self) {
        let policy = self.bed.write("reap.yaml", "defaults: {reap: {listening: 0s, idle: 0s}}\n");
        let before = self.truth.ask(&self.actors);
        let mut command = self.bed.command(Exporter::binary());
        command.args(["reap", "--output", "json", "--config.file"]).arg(policy);
        let output = command.output().unwrap();
        let after = self.truth.ask(&self.actors);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("reap: {}", text(&output.stderr)));
        schema::assert_fits("reap", &json);
        let services = json["haproxys"].as_array().into_iter().flatten();
        for step in services.flat_map(|service| service["steps"].as_array().into_iter().flatten()) {
            self.tally.planned();
            let answers = before.iter().zip(&after).any(|(before, after)| {
                before == after && before.is_some_and(|pid| step["pid"] == pid)
            });
            if answers {
                self.tally.wrong(Fault::Reaped, format!("{step}"));
            }
        }
    }

    /// A user without rights runs HAProxys that claim to replace those of others.
    fn lie(&self, mut chance: Chance) {
        let file =
            self.bed.write("lie.cfg", "listen lie\n    mode tcp\n    bind 127.0.0.1:20001\n");
        while !self.over.load(Ordering::SeqCst) {
            let answers = self.truth.ask(&self.actors);
            let pids: Vec<String> = answers.iter().flatten().map(i32::to_string).collect();
            let mut command = self.bed.command("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
            command.arg(chance.one(&Version::ALL).binary()).args(["-db", "-f"]).arg(&file);
            if !pids.is_empty() {
                let indices: Vec<usize> = (0..pids.len()).collect();
                command.arg("-sf").args(chance.some(&indices).iter().map(|index| &pids[*index]));
            }
            let liar = self.bed.start(command, "lie.log");
            self.tally.lied();
            std::thread::sleep(Duration::from_secs(3));
            drop(liar);
        }
    }
}
