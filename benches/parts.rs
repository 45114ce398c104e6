//! Measures the CPU time and the allocations of the parts of a steady sample: the look at the host
//! and its judgement, the metrics, and the page that is served. `benches/run` runs it under a load
//! that it has built; alone it measures this host. It asserts nothing.

use std::thread;
use std::time::Duration;

use allocation_counter::measure;
use haproxy_host_exporter::config::Config;
use haproxy_host_exporter::metrics::{Exporter, Limits, Renderer};
use haproxy_host_exporter::report::events::Events;
use haproxy_host_exporter::sample::Paths;
use haproxy_host_exporter::watch::Watcher;
use haproxy_host_exporter::web::Page;
use rustix::time::{ClockId, clock_gettime};

/// The samples after which no process is new to the exporter.
const WARM_UP: usize = 4;
const SAMPLES: usize = 5;

/// The cost of one part of a sample.
struct Part {
    name: &'static str,
    cpu_seconds: f64,
    bytes: u64,
    blocks: u64,
}

fn main() {
    let paths = Paths { procfs: "/proc".into(), sysfs: "/sys".into() };
    let mut watcher = Watcher::new(paths, Config::default()).expect("there is a procfs");
    let mut renderer = Renderer::default();
    let mut samples: Vec<[Part; 3]> = (0..WARM_UP + SAMPLES)
        .map(|_| {
            thread::sleep(Duration::from_secs(1));
            sample(&mut watcher, &mut renderer)
        })
        .skip(WARM_UP)
        .collect();
    samples.sort_by(|one, other| cpu(one).total_cmp(&cpu(other)));
    let median = samples.get(SAMPLES / 2).expect("there are samples");
    let parts: Vec<String> = median.iter().map(json).collect();
    println!("[{}]", parts.join(", "));
}

/// Does what `serve` does in each interval.
fn sample(watcher: &mut Watcher, renderer: &mut Renderer) -> [Part; 3] {
    let limits = Limits::of(watcher.policy());
    let (verdict, look) = part("look and judge", || watcher.look());
    let (text, render) =
        part("metrics", || renderer.render(&verdict, &Exporter::default(), limits));
    let (_, pages) =
        part("pages", || Page::new(text, verdict, Events::default(), 1000, "/metrics"));
    [look, render, pages]
}

fn part<T>(name: &'static str, work: impl FnOnce() -> T) -> (T, Part) {
    let mut given = None;
    let start = processor_seconds();
    let counts = measure(|| given = Some(work()));
    let cpu_seconds = processor_seconds() - start;
    let given = given.expect("it calls what it is given");
    (given, Part { name, cpu_seconds, bytes: counts.bytes_total, blocks: counts.count_total })
}

fn cpu(parts: &[Part; 3]) -> f64 {
    parts.iter().map(|part| part.cpu_seconds).sum()
}

fn json(part: &Part) -> String {
    let Part { name, cpu_seconds, bytes, blocks } = part;
    format!(
        "{{\"name\": {name:?}, \"cpu_seconds\": {cpu_seconds}, \"bytes\": {bytes}, \"blocks\": {blocks}}}"
    )
}

#[allow(clippy::cast_precision_loss)] // of a few seconds
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
