//! Accidents that others had: recycled pids, look-alikes, copied pidfile lines.

use std::fs;

use super::reaper::{IMPATIENT, Reaper, each, entries};
use crate::support::proxies::{WAITING_ROOM, listeners};
use crate::support::*;

/// `-sf` of a remembered pid that by now is another service's: that process stays.
#[test]
fn a_remembered_pid_that_is_now_another_services() {
    let bed = Bed::new();
    let victim = Service::named(&bed, Version::V3_2, Manner::Daemon, "victim");
    victim.configure(WAITING_ROOM).start();
    let pid = victim.serving();
    let own = Service::named(&bed, Version::V3_2, Manner::Daemon, "own");
    own.configure(&listeners(&[8011]));
    // HAProxy itself would signal the victim; blocked, the signal never arrives.
    bed.kill("STOP", pid);
    assert!(own.launch(&["-sf", &pid.to_string()]).status.success());
    let reaper = Reaper::new(&bed, IMPATIENT);
    let (json, _) = reaper.json(&["--execute"]);
    assert!(entries(&json, "steps").is_empty(), "{json:#}");
    assert!(reaper.story().is_empty(), "{:?}", reaper.story());
    assert!(bed.is_alive(pid));
}

/// Two services whose configurations name one pidfile, by a line that was copied: each is served by its own.
#[test]
fn two_services_with_one_pidfile() {
    let bed = Bed::new();
    let first = Service::named(&bed, Version::V3_2, Manner::Daemon, "first");
    let mut second = Service::named(&bed, Version::V3_2, Manner::Daemon, "second");
    first.configure(WAITING_ROOM).start();
    let old = first.serving();
    second.arguments[1] = first.pidfile().display().to_string();
    second.configure(&listeners(&[8011]));
    assert!(second.launch(&[]).status.success());
    let reaper = Reaper::new(&bed, IMPATIENT);
    let (json, _) = reaper.json(&["--execute"]);
    assert!(entries(&json, "steps").is_empty(), "{json:#}");
    assert!(bed.listens(old), "{json:#}");
    assert!(reaper.story().is_empty());
}

/// Another user's HAProxy that claims to replace root's.
#[test]
fn another_users_claim() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let pid = service.serving();
    let directory = bed.directory().join("theirs");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("own.cfg");
    fs::write(&file, "listen a\n mode tcp\n bind 127.0.0.1:8055\n server s 127.0.0.1:9\n").unwrap();
    bed.shell(&format!("chown -R 65534 {}", directory.display()));
    let mut command = bed.command(tool("setpriv"));
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&service.binary)
        .args(["-db", "-f"])
        .arg(&file)
        .args(["-sf", &pid.to_string()]);
    let _claimant = bed.start(command, "claimant.log");
    await_true("the claimant", || {
        bed.pids_of("haproxy").iter().filter(|&&pid| bed.listens(pid)).count() == 2
    });
    let reaper = Reaper::new(&bed, IMPATIENT);
    let (json, code) = reaper.json(&["--execute"]);
    assert_eq!(code, 0, "{json:#}");
    for kind in ["steps", "held"] {
        assert!(entries(&json, kind).is_empty(), "{json:#}");
    }
    assert!(bed.listens(pid));
}

/// The stale process ends, and its pid is given to another program, while a reaper watches.
#[test]
fn pids_that_are_recycled() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let old = service.serving();
    let _flow = scenes::lose_a_connection(&bed, &service);
    service.reload();
    await_true("the old one's soft stop", || !bed.listens(old));
    let reaper = Reaper::new(&bed, IMPATIENT.replace("step_grace: 1s", "step_grace: 2s").as_str());
    let _watching = reaper.watch(&["--execute"]);
    await_true("the first signal", || !reaper.story().is_empty());
    bed.kill("KILL", old);
    await_true("its end", || !bed.is_alive(old));
    // Another program takes its pid.
    let taken = bed.shell(&format!(
        "echo {} >/proc/sys/kernel/ns_last_pid; sleep 60 >/dev/null 2>&1 & echo $!",
        old - 1
    ));
    assert_eq!(taken.trim(), old.to_string());
    reaper.await_rounds(15);
    assert!(bed.is_alive(old), "the program that has its pid now: {:?}", reaper.story());
    let story = reaper.story();
    assert!(
        story.iter().all(|line| !line.starts_with("TERM") && !line.starts_with("KILL")),
        "{story:?}"
    );
    assert_eq!(each(&reaper.audit(), "haproxy").first(), Some(&"haproxy"));
}
