//! Measures the processor time that reading a configuration of 10,000 binds takes, which a busy machine
//! does not change. It asserts nothing: `cargo bench --bench reader`.

use std::fmt::Write as _;
use std::hint::black_box;

use haproxy_host_exporter::haproxy::config::{Launch, SourceFile, Version, read};
use rustix::time::{ClockId, clock_gettime};

const BINDS: usize = 10_000;
const ROUNDS: usize = 20;

fn main() {
    let mut text = String::from("defaults\n    mode tcp\n    timeout client 1h\n\n");
    for number in 0..BINDS {
        let (high, low) = (number / 250, number % 250 + 1);
        write!(
            text,
            "frontend f{number}\n    bind 10.0.{high}.{low}:{} name \"b {number}\"\n    default_backend b{number}\n\n\
             backend b{number}\n    server s1 10.1.{high}.{low}:80 check inter 5s\n\n",
            20_000 + number % 10_000,
        )
        .expect("writing to a string");
    }
    let files = [SourceFile { path: "bench.cfg".into(), text: text.into_bytes() }];
    let launch = Launch {
        environment: Some([("PATH".to_owned(), "/bin".to_owned())].into()),
        version: Version::parse("3.2.4"),
        ..Launch::default()
    };
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = processor_seconds();
            let declared = black_box(read(black_box(&files), &launch));
            let seconds = processor_seconds() - start;
            assert_eq!(declared.listeners.len(), BINDS);
            seconds
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{BINDS} binds, {} bytes: median {:.1} ms, worst {:.1} ms of {ROUNDS}",
        files.iter().map(|file| file.text.len()).sum::<usize>(),
        times.get(ROUNDS / 2).copied().unwrap_or_default() * 1e3,
        times.last().copied().unwrap_or_default() * 1e3,
    );
}

#[allow(clippy::cast_precision_loss)] // of a few seconds
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
