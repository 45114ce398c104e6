//! The life of one exporter: what it has seen, and whether its counters say so.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::actor::{Actor, Deeds};
use crate::current::{Current, of_one_service};
use crate::now;
use crate::support::{Bed, Exporter, Page, Running, View, await_some, await_within, fetch};
use crate::tally::{Fault, Tally};

/// The exporter's `stale_grace`, in seconds.
pub const GRACE: f64 = 2.0;

const ADDRESS: &str = "127.0.0.1:10101";

/// How long a first sample may take while everything moves on a busy machine.
const SAMPLING: Duration = Duration::from_secs(90);

/// An exporter, and what happened since it was started.
pub struct Epoch {
    running: Running,
    /// When it was started.
    pub since: f64,
    /// What the services had done when it was started; `None` when they were at work.
    before: Option<Vec<Deeds>>,
    /// Processes that it has called current, for each service.
    current: Mutex<Vec<Current>>,
}

impl Epoch {
    /// Starts an exporter. `resting`: no service is doing anything.
    pub fn begin(bed: &Bed, actors: &[Actor<'_>], resting: bool) -> Self {
        let before = resting.then(|| actors.iter().map(Actor::deeds).collect());
        let file = bed.write("exporter.yaml", &format!("defaults: {{stale_grace: {GRACE}s}}\n"));
        // The sampling thread gives way by ten, so on a busy machine it would take minutes.
        let mut command = bed.command("nice");
        command.args(["-n", "-10"]).arg(Exporter::binary());
        command.arg(format!("--web.listen-address={ADDRESS}"));
        command.args(["--sample.interval=300ms", "--log.level=error", "--config.file"]).arg(file);
        let running = bed.start(command, "exporter.log");
        let since = now();
        let current = Mutex::new(vec![Current::new(); actors.len()]);
        await_within(SAMPLING, "the exporter's first sample", || {
            bed.inside(|| fetch(ADDRESS, "/state.json"))
        });
        Self { running, since, before, current }
    }

    /// The state that the exporter of the time serves.
    pub fn view(bed: &Bed) -> Option<View> {
        let json = bed.inside(|| fetch(ADDRESS, "/state.json"))?;
        Some(View::read(&serde_json::from_str(&json).ok()?))
    }

    /// Remembers which processes of each service a view calls current.
    pub fn saw(&self, view: &View, answers: &[Option<i32>]) {
        let mut current = self.current.lock().unwrap();
        for (pids, pid) in current.iter_mut().zip(answers) {
            let seen = pid.and_then(|pid| Some((pid, view.processes.get(&pid)?)));
            if let Some((pid, seen)) = seen.filter(|(_, seen)| seen.generation == "current") {
                pids.entry(pid).or_default().insert(seen.service.clone());
            }
        }
    }

    /// It has called this process of a service current.
    pub fn saw_serving(&self, service: usize, pid: i32) -> bool {
        self.current.lock().unwrap()[service].contains_key(&pid)
    }

    /// Compares its counters with what the services did, while they rest, and ends it.
    pub fn end(self, bed: &Bed, actors: &[Actor<'_>], answers: &[Option<i32>], tally: &Tally) {
        let view = Self::view(bed).unwrap_or_else(|| panic!("{}", self.running.log()));
        let text = await_some("the metrics", || bed.inside(|| fetch(ADDRESS, "/metrics")));
        let page = Page::parse(&text).unwrap_or_else(|why| panic!("{why}"));
        let current = self.current.lock().unwrap();
        let mut names: BTreeMap<&str, &Actor<'_>> = BTreeMap::new();
        for (index, actor) in actors.iter().enumerate() {
            let Some(seen) = answers[index].and_then(|pid| view.processes.get(&pid)) else {
                continue;
            };
            if let Some(other) = names.insert(&seen.service, actor) {
                let what = format!(
                    "{} has the name of {}: {}",
                    actor.title(),
                    other.title(),
                    seen.service
                );
                tally.wrong(Fault::Renamed, what);
                continue;
            }
            let counted = |result| {
                let labels = [("haproxy", &*seen.service), ("result", result)];
                page.sum("haproxy_host_reloads_total", &labels)
            };
            let (success, failure) = (counted("success"), counted("failure"));
            let done = actor.deeds();
            let Some(before) = self.before.as_ref().map(|before| before[index]) else { continue };
            tally.counters_compared();
            let seen_reloads = of_one_service(&current[index], &seen.service).saturating_sub(1);
            if let Err(why) = counts(actor, before, done, seen_reloads, success, failure) {
                // Where several services share a file, one may have had the name of another for a while.
                let stem = seen.service.rsplit_once('-').map_or(&*seen.service, |(stem, _)| stem);
                let alike: Vec<_> = page
                    .all("haproxy_host_reloads_total", &[("result", "success")])
                    .filter(|sample| sample.label("haproxy").starts_with(stem))
                    .map(|sample| (sample.label("haproxy"), sample.value))
                    .collect();
                let what = format!(
                    "{}: {why}; is {} now, seen as {:?}; counted of those alike {alike:?}",
                    actor.title(),
                    seen.service,
                    current[index],
                );
                tally.wrong(Fault::Uncounted, what);
            }
        }
    }
}

/// Each reload counted once: a master numbers its reloads; of daemons those whose process was seen
/// are the least, and those that landed are the most.
#[allow(clippy::cast_precision_loss)] // reloads of one campaign
fn counts(
    actor: &Actor<'_>,
    before: Deeds,
    done: Deeds,
    seen: usize,
    success: f64,
    failure: f64,
) -> Result<(), String> {
    let anew = done.starts - before.starts;
    if actor.mode.is_master() {
        if anew > 0 {
            return Ok(());
        }
        let numbered = (done.numbered - before.numbered) as f64;
        let refused = (done.refused - before.refused) as f64;
        let right = success + failure == numbered && failure <= refused;
        let what = format!(
            "the master numbered {numbered} reloads, at most {refused} of them refused; \
             counted {success} successes and {failure} failures"
        );
        return if right { Ok(()) } else { Err(what) };
    }
    let most = (done.reloads - before.reloads + anew) as f64;
    let least = seen.saturating_sub(anew) as f64;
    let right = (least..=most).contains(&success);
    let what = format!("{least} to {most} reloads of a daemon, counted {success}");
    if right { Ok(()) } else { Err(what) }
}
