//! Months of a host in some minutes: services of every version are reloaded again and again, some with a
//! connection that is held, some with a file that HAProxy refuses; other names come and go; the exporter's
//! own configuration is read anew. Afterwards the exporter is as it was, and has counted each reload once.
//! `benches/run soak` makes ten thousand reloads beside twenty thousand other processes, which are there from the
//! beginning; here it is a few of both.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
// values on a page are small whole numbers
#![allow(clippy::float_cmp, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[path = "../support/mod.rs"]
mod support;

mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use haproxy_host_exporter::model::time::YOUNG_SECONDS;
use rustix::process::Signal;
use support::*;
use watch::Watch;

/// Every version is run in each of these.
const MANNERS: [Manner; 2] = [Manner::DaemonTransfer, Manner::Master];
/// Ports of each service, each with a frontend that holds a connection without a server behind it.
const PORTS_EACH: u16 = 5;
/// One reload in this many leaves a process behind that drains.
const DRAINING_EVERY: usize = 3;
/// The number of connections that hold draining processes; the oldest is closed when one more begins.
const DRAINING_AT_ONCE: usize = 3;
/// One reload in this many is preceded by one that fails.
const FAILING_EVERY: usize = 20;
/// The first reload that is preceded by one that fails, so that each service has one in a short run too.
const FAILING_FIRST: usize = 5;
/// Reloads that each service makes at least; the others are made by the fastest.
const EACH: usize = FAILING_FIRST + 1;
/// Names that come at once, and go together.
const NAMES_AT_ONCE: usize = 10;
/// What comes and goes is forgotten soon, so that forgetting happens all the time.
const CONFIGURATION: &str = "defaults: {stale_grace: 1s, forget_after: 3s}\n";
/// One time in this many, the configuration that is read anew is one that the exporter refuses.
const REFUSED_EVERY: usize = 5;
/// The exporter is at rest when no HAProxy has started and no configuration was read for so long.
const QUIET_SECONDS: f64 = YOUNG_SECONDS + 2.0;
/// A run with fewer reloads is all warm-up: neither its memory nor its times are judged.
const WARM: usize = 1000;

#[test]
fn reloads_leave_nothing_behind() {
    let wanted = number("SOAK_RELOADS", 60);
    let names = number("SOAK_NAMES", 10);
    let others = number("SOAK_PROCESSES", 20);
    let bed = Bed::new();
    let _others = crowd(&bed, others);
    let services: Vec<Soaked<'_>> = cast(&bed, number("SOAK_SERVICES", 1));
    let configuration = bed.write("exporter.yaml", CONFIGURATION);
    let command = bed.command(Exporter::binary());
    let interval = number("SOAK_INTERVAL_MS", 200);
    let exporter = Exporter::sampling(&bed, command, &configuration, &format!("{interval}ms"));
    exporter.running.signal(Signal::HUP); // reading the configuration leaves a thread waiting for more
    let before = settled(&exporter);
    let watch = Watch::new(&exporter);
    let made = AtomicUsize::new(0);
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(number("SOAK_SECONDS", 600) as u64);

    let come = std::thread::scope(|scope| {
        let (watching, count) = (&watch, &made);
        let start = |service| {
            let service: &Soaked<'_> = service;
            scope.spawn(move || service.reload_again_and_again(watching, count, wanted, deadline))
        };
        let reloading: Vec<_> = services.iter().map(start).collect();
        let come_and_go = scope.spawn(|| names_come_and_go(&bed, &watch, names, deadline));
        let rest = [
            scope.spawn(|| configuration_is_read_anew(&bed, &exporter, &watch)),
            scope.spawn(|| watch.look()),
        ];
        let mut faults: Vec<_> =
            reloading.into_iter().filter_map(|thread| thread.join().err()).collect();
        let come = come_and_go.join().map_err(|fault| faults.push(fault));
        // The watch ends last: the others wait for its pages.
        watch.over.store(true, Ordering::Relaxed);
        faults.extend(rest.into_iter().filter_map(|thread| thread.join().err()));
        if let Some(fault) = faults.into_iter().next() {
            std::panic::resume_unwind(fault);
        }
        come.unwrap_or_default()
    });
    let seconds = begun.elapsed().as_secs();

    let known: BTreeSet<String> = services.iter().map(|service| service.name.clone()).collect();
    let after = exporter.await_page("only the last generations", |page| {
        page.haproxys() == known
            && services.iter().all(|service| service.counted(page) == service.done())
            && known
                .iter()
                .all(|name| page.is("haproxy_host_generations", &[("haproxy", name)], 1.0))
            && page.anomalies_are(&[])
    });
    let sum = |number: fn(&Soaked<'_>) -> usize| services.iter().map(number).sum::<usize>();
    let (landed, failed) = (sum(|service| service.done().0), sum(|service| service.done().1));
    let by_masters: usize = services
        .iter()
        .filter(|service| service.manner == Manner::Master)
        .map(|service| service.done().0)
        .sum();
    println!(
        "{landed} reloads, {by_masters} of them by masters, and {failed} that failed, of {} services beside {others} \
         other processes in {seconds} s, each counted once; {come} names came and went",
        services.len()
    );
    watch.tell();
    assert!(landed >= wanted, "{landed} of {wanted} reloads in {seconds} s");
    assert!(come >= names, "{come} of {names} names in {seconds} s");
    let grown: BTreeSet<String> =
        names_of(&after).difference(&names_of(&before)).cloned().collect();
    let brought = ["successful", "timestamp_seconds"];
    let brought = brought.map(|end| format!("haproxy_host_last_reload_{end}"));
    assert_eq!(grown, brought.into(), "series that only the reloads brought");
    settled(&exporter);
    // The page counts one descriptor more if the exporter was answering a scrape when the sample ended.
    for name in ["process_open_fds", "process_threads"] {
        let then = before.value(name, &[]).expect(name);
        exporter.await_page(&format!("{name} of at most {then}, as before"), |page| {
            page.value(name, &[]).is_some_and(|now| now <= then)
        });
    }
    watch.judge_memory(landed >= WARM);
    if landed >= WARM {
        watch.judge_times();
    }
}

/// Waits until the exporter is at rest, and returns its page. By then no HAProxy is young, so the exporter has opened
/// every link that it keeps. The thread that read the configuration has ended; it waits ten seconds for more work.
fn settled(exporter: &Exporter<'_>) -> Page {
    let first = exporter.await_samples(1);
    let sampled = |page: &Page| page.value("haproxy_host_sample_timestamp_seconds", &[]).unwrap();
    exporter.await_page("no young HAProxy", |page| {
        let starts = page.all("haproxy_host_generation_start_timestamp_seconds", &[]);
        let last = starts.map(|sample| sample.value).fold(sampled(&first), f64::max);
        sampled(page) > last + QUIET_SECONDS
    })
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

fn names_of(page: &Page) -> BTreeSet<String> {
    page.samples.iter().map(|sample| sample.name.clone()).collect()
}

/// Starts this number of other processes; returns what ends them.
fn crowd(bed: &Bed, number: usize) -> Running {
    let mut command = bed.command("sh");
    let line = format!(
        "i=0; while [ $i -lt {number} ]; do sleep infinity & i=$((i+1)); done; : >crowded; wait"
    );
    command.args(["-c", &line]);
    let running = bed.start(command, "crowd.log");
    let limit = Duration::from_secs(300);
    await_within(limit, "the crowd", || bed.directory().join("crowded").exists().then_some(()));
    running
}

/// So many services for each version and manner, started.
fn cast(bed: &Bed, of_each: usize) -> Vec<Soaked<'_>> {
    let both = Version::ALL.into_iter().flat_map(|version| MANNERS.map(|manner| (version, manner)));
    both.flat_map(|both| (1..=of_each).map(move |number| (both, number)))
        .zip((20_000..).step_by(usize::from(PORTS_EACH)))
        .map(|(((version, manner), number), first)| {
            let version_name = version.name().replace('.', "");
            let name = format!("{manner:?}-{version_name}-{number}").to_lowercase();
            let mut service = Service::named(bed, version, manner, &name);
            let pidfile = bed.directory().join(format!("{name}.pid")).display().to_string();
            service.arguments[1].clone_from(&pidfile);
            // Where the other manners of a service look for it.
            std::os::unix::fs::symlink(&pidfile, service.pidfile()).unwrap();
            service.configure(&frontends(first, "")).start();
            Soaked { bed, service, manner, name, first, done: Mutex::default() }
        })
        .collect()
}

fn frontends(first: u16, more: &str) -> String {
    let frontend = |port| {
        format!(
            "frontend f{port}\n    mode tcp\n    bind 127.0.0.1:{port}\n    \
             tcp-request inspect-delay 1h\n    \
             tcp-request content accept if {{ req.len gt 0 }}\n{more}"
        )
    };
    (first..first + PORTS_EACH).map(frontend).collect::<Vec<_>>().concat()
}

/// A service that is reloaded.
struct Soaked<'b> {
    bed: &'b Bed,
    service: Service<'b>,
    manner: Manner,
    name: String,
    first: u16,
    /// Reloads that landed, and those that a master was asked for and could not make.
    done: Mutex<(usize, usize)>,
}

impl Soaked<'_> {
    fn done(&self) -> (usize, usize) {
        *self.done.lock().unwrap()
    }

    /// What the exporter counted: successes and failures.
    fn counted(&self, page: &Page) -> (usize, usize) {
        let of = |result| {
            let labels = [("haproxy", &*self.name), ("result", result)];
            page.sum("haproxy_host_reloads_total", &labels) as usize
        };
        (of("success"), of("failure"))
    }

    fn reload_again_and_again(
        &self,
        watch: &Watch<'_, '_>,
        made: &AtomicUsize,
        wanted: usize,
        deadline: Instant,
    ) {
        let mut flows = VecDeque::new();
        for number in 1.. {
            let enough = number > EACH && made.load(Ordering::Relaxed) >= wanted;
            if enough || Instant::now() > deadline {
                return;
            }
            if number % DRAINING_EVERY == 0 {
                let address = format!("127.0.0.1:{}", self.first);
                flows.push_back(Flow::held_by(self.bed, &address, self.service.serving()));
                if flows.len() > DRAINING_AT_ONCE {
                    flows.pop_front();
                }
            }
            // After this a master has no worker in charge until the next reload.
            if number == FAILING_FIRST || number % FAILING_EVERY == 0 {
                self.fail(watch);
            }
            self.service.reload();
            self.done.lock().unwrap().0 += 1;
            made.fetch_add(1, Ordering::Relaxed);
            // A master numbers its reloads; a daemon that came and went between two samples is not known.
            if self.manner != Manner::Master {
                self.await_counted(watch);
            }
        }
    }

    fn await_counted(&self, watch: &Watch<'_, '_>) {
        let done = self.done();
        watch.await_page(&format!("{}: {done:?} reloads", self.name), |page| {
            self.counted(page) == done
        });
    }

    /// A reload that HAProxy refuses. A daemon that is not even started is no reload.
    fn fail(&self, watch: &Watch<'_, '_>) {
        self.service.configure(&frontends(self.first, "    nonsense here\n"));
        if self.manner == Manner::Master {
            self.await_counted(watch);
            self.done.lock().unwrap().1 += 1;
            self.service.signal_reload();
            self.await_counted(watch);
        } else {
            assert!(
                !self.service.try_reload().status.success(),
                "{}: nonsense was taken",
                self.name
            );
        }
        self.service.configure(&frontends(self.first, ""));
    }
}

/// Starts services under new names, waits until they are on the page, and ends them; gives their number.
fn names_come_and_go(bed: &Bed, watch: &Watch<'_, '_>, number: usize, deadline: Instant) -> usize {
    let frontend = "frontend f\n    mode tcp\n    bind \"127.0.0.1:${PORT}\"\n";
    let defaults =
        "defaults\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n";
    let file = bed.write("brief.cfg", &format!("{defaults}{frontend}"));
    let mut come = 0;
    while come < number && Instant::now() < deadline {
        let names: Vec<String> =
            (come..come + NAMES_AT_ONCE).map(|n| format!("brief-{n}")).collect();
        for (name, port) in names.iter().zip(30_000..) {
            let pidfile = bed.directory().join(format!("{name}.pid"));
            let mut command = bed.command(Version::V3_0.binary());
            command
                .env("PORT", format!("{port}"))
                .arg("-D")
                .arg("-p")
                .arg(&pidfile)
                .arg("-f")
                .arg(&file);
            assert!(command.status().unwrap().success(), "{name}");
        }
        watch.await_page("the new names", |page| {
            let seen = page.haproxys();
            names.iter().all(|name| seen.contains(name))
        });
        for name in &names {
            let pidfile = bed.directory().join(format!("{name}.pid"));
            let pid: i32 = fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
            bed.kill("KILL", pid);
            await_true("its end", || !bed.is_alive(pid));
            fs::remove_file(pidfile).unwrap();
        }
        come += NAMES_AT_ONCE;
    }
    come
}

/// Makes the exporter read its own configuration again and again, and refuse some.
fn configuration_is_read_anew(bed: &Bed, exporter: &Exporter<'_>, watch: &Watch<'_, '_>) {
    let mut number = 0;
    let mut last = None;
    while !watch.over.load(Ordering::Relaxed) {
        number += 1;
        let refused = number % REFUSED_EVERY == 0;
        bed.write("exporter.yaml", if refused { "nonsense: 1\n" } else { CONFIGURATION });
        exporter.running.signal(Signal::HUP);
        let value = f64::from(u8::from(!refused));
        let read_at = |page: &Page| {
            page.value("haproxy_host_exporter_config_last_reload_success_timestamp_seconds", &[])
        };
        // The next is not asked for before this one shows: a page shows only the last that was read.
        watch.await_page("the configuration", |page| {
            page.is("haproxy_host_exporter_config_last_reload_successful", &[], value)
                && (refused || read_at(page) > last)
        });
        last = read_at(&watch.last.lock().unwrap());
    }
    bed.write("exporter.yaml", CONFIGURATION);
    exporter.running.signal(Signal::HUP);
    println!("the configuration was read {number} times");
}
