//! Many at once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::reaper::{IMPATIENT, Reaper, each, entries};
use crate::support::proxies::WAITING_ROOM;
use crate::support::*;

/// Fifty are left behind one after the other; the caps hold, run after run.
#[test]
fn fifty_that_piled_up_are_ended_within_the_caps() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    for _ in 0..50 {
        scenes::leave_behind(&bed, &service, service.serving(), &["-sf"]);
    }
    let serving = service.serving();
    let living = || bed.pids_of("haproxy").iter().filter(|&&pid| bed.listens(pid)).count();
    assert_eq!(living(), 51);
    let policy = IMPATIENT.replace("max_per_run: 100", "max_per_run: 20");
    let policy = policy.replace("max_share: 100%", "max_share: 90%");
    let reaper = Reaper::new(&bed, &policy);
    let mut ended = Vec::new();
    for _ in 0..3 {
        let (json, code) = reaper.json(&["--execute"]);
        let steps = entries(&json, "steps");
        ended.push(each(&steps, "result").iter().filter(|result| **result == "ended").count());
        assert_eq!(code, 1, "{json:#}");
    }
    // 90 % of 51 are 45.
    assert_eq!(ended, [20, 20, 5]);
    let (json, _) = reaper.json(&["--execute"]);
    assert_eq!(each(&entries(&json, "held"), "hold"), ["max_share"; 5], "{json:#}");
    assert_eq!(living(), 6);
    assert!(bed.listens(serving));
}

/// A client that makes 200 requests a second through the serving HAProxy notices nothing.
#[test]
fn clients_notice_nothing() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::DaemonTransfer);
    service.configure(
        "frontend web\n    mode http\n    bind 127.0.0.1:8003\n    http-request return status 200\n",
    );
    service.start();
    let old = service.serving();
    scenes::leave_behind(&bed, &service, old, &["-sf"]);
    let (stop, done, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let client = std::thread::spawn({
        let (enter, stop, done, failed) = (bed.door(), stop.clone(), done.clone(), failed.clone());
        move || {
            enter();
            let mut next = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let counter = if request().is_ok() { &done } else { &failed };
                counter.fetch_add(1, Ordering::Relaxed);
                next += Duration::from_millis(5);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }
    });
    await_true("requests", || done.load(Ordering::Relaxed) > 100);
    let reaper = Reaper::new(&bed, IMPATIENT);
    let (json, code) = reaper.json(&["--execute"]);
    assert_eq!(code, 0, "{json:#}");
    await_true("its end", || !bed.is_alive(old));
    let after = done.load(Ordering::Relaxed);
    await_true("more requests", || done.load(Ordering::Relaxed) > after + 100);
    stop.store(true, Ordering::Relaxed);
    client.join().unwrap();
    assert_eq!(failed.load(Ordering::Relaxed), 0);
}

fn request() -> std::io::Result<()> {
    let mut stream = TcpStream::connect("127.0.0.1:8003")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let is_good = answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200");
    if is_good { Ok(()) } else { Err(std::io::Error::other(answer)) }
}
