//! What a campaign counts, and what it found wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;

use crate::actor::Actor;
use crate::mode::{Act, Mode};
use crate::support::Version;

/// Kinds of fault; each must be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    FalseStale,
    FalseDown,
    FalseIdle,
    /// A serving process is called starting, or is not on the page, for longer than two samples.
    Late,
    /// A process that was replaced is not called stale.
    MissedStale,
    /// A reload that was seen is not counted exactly once.
    Uncounted,
    /// An anomaly that the history does not justify.
    Unjustified,
    /// The proof is not what was done.
    Proof,
    /// The name of a service changed, or two have one.
    Renamed,
    /// A plan to reap names a process that answers.
    Reaped,
}

#[derive(Default)]
struct Counts {
    draws: BTreeMap<(Version, Mode, Act), usize>,
    views: usize,
    inspections: usize,
    restarts: usize,
    lies: usize,
    comparisons: usize,
    counters: usize,
    planned: usize,
    faults: BTreeMap<Fault, usize>,
    examples: BTreeMap<Fault, Vec<String>>,
}

/// The counts, shared by all threads.
#[derive(Default)]
pub struct Tally(Mutex<Counts>);

/// Examples that are kept of each fault.
const EXAMPLES: usize = 8;

impl Tally {
    pub fn drawn(&self, version: Version, mode: Mode, act: Act) {
        *self.0.lock().unwrap().draws.entry((version, mode, act)).or_default() += 1;
    }

    pub fn viewed(&self, fresh: bool) {
        let mut counts = self.0.lock().unwrap();
        if fresh { counts.inspections += 1 } else { counts.views += 1 }
    }

    pub fn compared(&self, count: usize) {
        self.0.lock().unwrap().comparisons += count;
    }

    pub fn counters_compared(&self) {
        self.0.lock().unwrap().counters += 1;
    }

    /// A plan to reap has one more step.
    pub fn planned(&self) {
        self.0.lock().unwrap().planned += 1;
    }

    pub fn restarted(&self) {
        self.0.lock().unwrap().restarts += 1;
    }

    pub fn lied(&self) {
        self.0.lock().unwrap().lies += 1;
    }

    pub fn wrong(&self, fault: Fault, example: String) {
        let mut counts = self.0.lock().unwrap();
        *counts.faults.entry(fault).or_default() += 1;
        let examples = counts.examples.entry(fault).or_default();
        if examples.len() < EXAMPLES {
            examples.push(example);
        }
    }

    /// Nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.0.lock().unwrap().faults.is_empty()
    }

    /// Combinations of version, mode and act that were never drawn.
    pub fn missing(&self, versions: &[Version]) -> Vec<String> {
        let counts = self.0.lock().unwrap();
        let modes = |version: &Version| {
            let version = *version;
            Mode::ALL
                .into_iter()
                .filter(move |mode| mode.exists(version))
                .map(move |mode| (version, mode))
        };
        let acts = |(version, mode)| Act::WEIGHTS.map(|(act, _)| (version, mode, act));
        let all = versions.iter().flat_map(modes).flat_map(acts);
        all.filter(|key| !counts.draws.contains_key(key)).map(|key| format!("{key:?}")).collect()
    }

    /// The figures as lines of text.
    pub fn report(&self, actors: &[Actor<'_>]) -> String {
        let counts = self.0.lock().unwrap();
        let mut text = String::new();
        for ((version, mode), reloads) in reloads(actors) {
            let acts: Vec<String> = Act::WEIGHTS
                .iter()
                .map(|(act, _)| {
                    let drawn = counts.draws.get(&(version, mode, *act)).copied().unwrap_or(0);
                    format!("{act:?} {drawn}")
                })
                .collect();
            let (version, mode) = (version.name(), mode.name());
            let _ = writeln!(
                text,
                "{version} {mode:5} {reloads:5} reloads; drawn: {}",
                acts.join(", ")
            );
        }
        let _ = writeln!(
            text,
            "{} reloads, {} views, {} fresh inspections, {} comparisons, {} counters compared, \
             {} restarts of the exporter, {} lies, {} steps of reap planned",
            reloads(actors).values().sum::<usize>(),
            counts.views,
            counts.inspections,
            counts.comparisons,
            counts.counters,
            counts.restarts,
            counts.lies,
            counts.planned,
        );
        for (fault, count) in &counts.faults {
            let _ = writeln!(text, "WRONG {fault:?}: {count}");
            for example in &counts.examples[fault] {
                let _ = writeln!(text, "    {example}");
            }
        }
        text
    }
}

/// Reloads that landed, by version and mode.
pub fn reloads(actors: &[Actor<'_>]) -> BTreeMap<(Version, Mode), usize> {
    let mut sums = BTreeMap::new();
    for actor in actors {
        let deeds = actor.deeds();
        *sums.entry((actor.version, actor.mode)).or_default() += deeds.reloads + deeds.landed;
    }
    sums
}

/// The versions of the campaign.
pub fn versions(actors: &[Actor<'_>]) -> Vec<Version> {
    actors.iter().map(|actor| actor.version).collect::<BTreeSet<_>>().into_iter().collect()
}
