//! Measures the processor time that reading a configuration of 10,000 binds takes, which a busy machine
//! does not change, and beside it that of `haproxy -c` on the same file. It asserts nothing:
//! `cargo bench --bench reader`. `HAPROXY` names the executable; else the one that the tests
//! installed, or the one on PATH, is run.

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    let scratch = tempfile::tempdir().expect("the temporary directory");
    let file = scratch.path().join("reader.cfg");
    std::fs::write(&file, &text).expect("a file in it");
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
    match haproxy_seconds(&file) {
        Ok((version, seconds)) => println!("{version} -c: {:.0} ms", seconds * 1e3),
        Err(why) => println!("haproxy -c could not be measured: {why}"),
    }
}

/// The version of HAProxy, and the processor time of its `-c` on this file: the median of five runs.
fn haproxy_seconds(file: &Path) -> Result<(String, f64), Box<dyn Error>> {
    let installed = PathBuf::from("tests/.cache/haproxy/3.2/haproxy");
    let found = if installed.exists() { installed } else { "haproxy".into() };
    let haproxy = std::env::var_os("HAPROXY").map_or(found, PathBuf::from);
    let answer = Command::new(&haproxy).arg("-v").output()?;
    let version = String::from_utf8_lossy(&answer.stdout).into_owned();
    let version = version.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = seconds_of_children()?;
        let answer = Command::new(&haproxy).arg("-c").arg("-f").arg(file).output()?;
        if !answer.status.success() {
            return Err(String::from_utf8_lossy(&answer.stderr).into_owned().into());
        }
        times.push(seconds_of_children()? - start);
    }
    times.sort_by(f64::total_cmp);
    Ok((version, times.get(times.len() / 2).copied().unwrap_or_default()))
}

/// Processor time of all children that have ended (`cutime` and `cstime` of `/proc/self/stat`).
#[allow(clippy::cast_precision_loss)] // of a few seconds
fn seconds_of_children() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").ok_or("no end of the name")?;
    let ticks: u64 =
        rest.split(' ').skip(13).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[allow(clippy::cast_precision_loss)] // of a few seconds
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
