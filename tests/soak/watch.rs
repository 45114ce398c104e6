//! Scrapes the exporter during the soak, records what it used, and judges the record.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::support::{Exporter, PATIENCE, Page};

const MIB: f64 = 1_048_576.0;
/// A thousand reloads that each left a page of 4 KiB behind would be four times as much.
const MAY_GROW: f64 = MIB;
/// After its warm-up, memory may differ by this share.
const MAY_DIFFER: f64 = 0.05;
/// 99 of 100 samples take no more than a fifth of the default interval, five seconds …
const SAMPLE_WITHIN: f64 = 1.0;
/// … and 99 of 100 scrapes are answered in a tenth of what Prometheus waits by default, ten seconds. These are bounds of
/// what works at all: the machine is as busy as the reloads make it, and the thread that samples gives way to them.
const SCRAPE_WITHIN: f64 = 1.0;

/// Scrapes for all threads of the soak, and records what the exporter used.
pub struct Watch<'e, 'b> {
    exporter: &'e Exporter<'b>,
    pub last: Mutex<Page>,
    changed: Condvar,
    pub over: AtomicBool,
    waiting: AtomicUsize,
    scrapes: Mutex<Vec<Scrape>>,
}

/// One scrape: how long it took, and what it said of the exporter itself.
struct Scrape {
    seconds: f64,
    sample_seconds: f64,
    resident: f64,
    descriptors: f64,
}

impl<'e, 'b> Watch<'e, 'b> {
    pub fn new(exporter: &'e Exporter<'b>) -> Self {
        Self {
            exporter,
            last: Mutex::new(exporter.page()),
            changed: Condvar::new(),
            over: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            scrapes: Mutex::default(),
        }
    }

    pub fn look(&self) {
        while !self.over.load(Ordering::Relaxed) || self.waiting.load(Ordering::Relaxed) > 0 {
            let begun = Instant::now();
            let answer = self.exporter.get("/metrics").unwrap();
            let seconds = begun.elapsed().as_secs_f64();
            let page = Page::parse(&answer.body).unwrap();
            let own = |name| page.value(name, &[]).unwrap();
            let scrape = Scrape {
                seconds,
                sample_seconds: page.sum("haproxy_host_sample_duration_seconds", &[]),
                resident: own("process_resident_memory_bytes"),
                descriptors: own("process_open_fds"),
            };
            self.scrapes.lock().unwrap().push(scrape);
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = page;
            self.changed.notify_all();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    pub fn await_page(&self, what: &str, condition: impl Fn(&Page) -> bool) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        let mut page = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        while !condition(&page) {
            let brief = || page.brief();
            if Instant::now() > deadline {
                let brief = brief();
                drop(page);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                panic!("no page with {what}; the last one:\n{brief}");
            }
            let (next, _) = self.changed.wait_timeout(page, Duration::from_secs(1)).unwrap();
            page = next;
        }
        drop(page);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn tell(&self) {
        let scrapes = self.scrapes.lock().unwrap();
        println!("{} scrapes:", scrapes.len());
        tell(&scrapes);
    }

    /// Its first quarter is where a process finds its size.
    pub fn judge_memory(&self, is_warm: bool) {
        let scrapes = self.scrapes.lock().unwrap();
        let quarter = scrapes.len() / 4;
        let median = |part: usize| {
            let part = &scrapes[part * quarter..(part + 1) * quarter];
            let mut values: Vec<f64> = part.iter().map(|scrape| scrape.resident).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let medians = [0, 1, 2, 3].map(median);
        let told = medians.map(|bytes| format!("{:.2}", bytes / MIB)).join(", ");
        println!("resident, medians of the quarters: {told} MiB");
        // A short run is over its warm-up only after the first quarter.
        let grown = medians[3] - medians[usize::from(!is_warm)];
        assert!(grown <= MAY_GROW, "more than {:.2} MiB of growth", MAY_GROW / MIB);
        let differs = (medians[3] - medians[1]).abs() / medians[1];
        assert!(
            !is_warm || differs <= MAY_DIFFER,
            "memory differs by {:.1} % after the warm-up",
            differs * 100.0
        );
    }

    pub fn judge_times(&self) {
        let scrapes = self.scrapes.lock().unwrap();
        for (what, value, bound) in [
            ("samples", spread(&scrapes, |scrape| scrape.sample_seconds).1, SAMPLE_WITHIN),
            ("scrapes", spread(&scrapes, |scrape| scrape.seconds).1, SCRAPE_WITHIN),
        ] {
            assert!(value <= bound, "99 of 100 {what} take up to {value:.3} s, not {bound} s");
        }
    }
}

/// The median, the 99th percentile and the most.
fn spread(scrapes: &[Scrape], value: fn(&Scrape) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = scrapes.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() * 99 / 100], values[values.len() - 1])
}

fn tell(scrapes: &[Scrape]) {
    let of = |value: fn(&Scrape) -> f64| spread(scrapes, value);
    for (what, unit, values) in [
        ("a scrape", "ms", of(|scrape| scrape.seconds * 1e3)),
        ("a sample", "ms", of(|scrape| scrape.sample_seconds * 1e3)),
        ("resident", "MiB", of(|scrape| scrape.resident / MIB)),
        ("descriptors", "", of(|scrape| scrape.descriptors)),
    ] {
        println!(
            "  {what}: median {:.1}, p99 {:.1}, most {:.1} {unit}",
            values.0, values.1, values.2
        );
    }
}
