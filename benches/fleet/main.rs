//! Serves a fleet of simulated hosts: staged processes, judged and rendered as the exporter does it, at
//! `/hosts/NUMBER/metrics`. `fleet.py` lets a real Prometheus scrape them.
//!
//! With `--history SECONDS` it prints what Prometheus would have scraped in that time, as OpenMetrics, and
//! ends: `promtool` makes of it the blocks that Prometheus keeps for months.
//!
//! Every host has HAProxys that are reloaded each ten minutes; some hosts have one fault each, every kind
//! in turn; on one host in ten a pod comes and goes under another name each time. `/census` says how many
//! hosts show which kind, so that the figures are those of a fleet that really has them.

// The vocabulary of the unit tests, of which this file needs only a part.
#[allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "../../src/stage.rs"]
mod stage;

mod host;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use haproxy_host_exporter::policy::kind::Kind;
// `stage.rs` finds these where it finds them in the library.
use haproxy_host_exporter::{haproxy, judge, model, policy};

use host::{Fleet, Host, part, whole};

fn now() -> f64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0.0, |since| since.as_secs_f64())
}

/// How many hosts showed each kind at their last scrape.
fn census(hosts: &[Mutex<Host>]) -> String {
    let mut census: BTreeMap<&str, usize> =
        Kind::ALL.iter().map(|kind| (kind.as_str(), 0)).collect();
    for host in hosts {
        let host = host.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds: Vec<&str> = host.firing.iter().map(|kind| kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            *census.entry(kind).or_default() += 1;
        }
    }
    serde_json::json!(census).to_string()
}

fn answer(hosts: &[Mutex<Host>], path: &str) -> Option<String> {
    if path == "/census" {
        return Some(census(hosts));
    }
    let number = path.strip_prefix("/hosts/")?.strip_suffix("/metrics")?;
    let host = hosts.get(number.parse::<usize>().ok()?)?;
    Some(host.lock().unwrap_or_else(PoisonError::into_inner).page(now()))
}

/// Answers the requests of one connection until its end.
fn serve(hosts: &[Mutex<Host>], stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let (status, body) = match answer(hosts, &path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", String::new()),
        };
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        let length = body.len();
        write!(
            reader.get_mut(),
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
    }
}

/// Prints the samples of all hosts over so many seconds, one scrape each 15 s.
fn print_history(hosts: &[Mutex<Host>], seconds: usize) -> std::io::Result<()> {
    let begun = f64::from(whole(now())) - f64::from(part(seconds, u32::MAX));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, host) in hosts.iter().enumerate() {
        let mut host = host.lock().unwrap_or_else(PoisonError::into_inner);
        for scrape in 0..part(seconds / 15, u32::MAX) {
            // Prometheus is late by up to two milliseconds.
            let at = begun + f64::from(scrape) * 15.0 + f64::from(scrape % 3) / 1000.0;
            for line in host.page(at).lines().filter(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').unwrap_or_default();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let comma = if labels == "}" { "" } else { "," };
                writeln!(out, "{name}{{instance=\"lb{number}\"{comma}{labels} {value} {at:.3}")?;
            }
        }
    }
    writeln!(out, "# EOF")
}

/// The number after a flag.
fn flag(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn main() {
    let small = |name, default| u16::try_from(flag(name, default)).unwrap_or(u16::MAX);
    let fleet = Fleet {
        hosts: flag("--hosts", 100),
        haproxys: small("--haproxys", 1),
        ports: small("--ports", 50),
        faulty_every: flag("--faulty-every", 20),
    };
    if let Some(why) = fleet.refusal() {
        eprintln!("fleet: {why}");
        std::process::exit(2);
    }
    let history = flag("--history", 0);
    let begun = whole(now()) - part(history, u32::MAX);
    let hosts: Arc<Vec<Mutex<Host>>> = Arc::new(
        (0..fleet.hosts).map(|number| Mutex::new(Host::new(number, fleet, begun))).collect(),
    );
    if history > 0 {
        print_history(&hosts, history).expect("a pipe that is read to its end");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    println!("{}", listener.local_addr().expect("it is bound"));
    for stream in listener.incoming().flatten() {
        let hosts = Arc::clone(&hosts);
        // A client that goes away in the middle of an answer is no failure of the fleet.
        thread::spawn(move || serve(&hosts, stream).unwrap_or_default());
    }
}
