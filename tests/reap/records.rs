//! The lock, the state, the audit, the off file and the right to signal.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::reaper::{IMPATIENT, Reaper, each, entries};
use crate::support::proxies::WAITING_ROOM;
use crate::support::*;

/// A stranded process that a reaper would ask to stop.
fn stranded(bed: &Bed) -> (Service<'_>, i32) {
    let service = Service::new(bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let old = service.serving();
    scenes::leave_behind(bed, &service, old, &["-sf"]);
    (service, old)
}

#[test]
fn without_the_right_to_signal_it_says_so() {
    let bed = Bed::new();
    let (_service, old) = stranded(&bed);
    let reaper = Reaper::new(&bed, IMPATIENT);
    // Root's directory belongs to another user now, who may read everything and signal nothing.
    let place = reaper.state.parent().unwrap();
    bed.shell(&format!("mkdir -p {0} && chown 65534 {0}", place.display()));
    fs::File::create(&reaper.audit).unwrap();
    bed.shell(&format!("chown 65534 {}", reaper.audit.display()));
    let binary = bed.directory().join("exporter");
    copy_program(Exporter::binary(), &binary);
    for execute in [&[][..], &["--execute"]] {
        let mut command = bed.command(tool("setpriv"));
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"])
            .args(["--inh-caps=-all,+sys_ptrace,+dac_read_search"])
            .args(["--ambient-caps=-all,+sys_ptrace,+dac_read_search", "--"])
            .arg(&binary)
            .args(reaper.arguments(execute));
        let output = command.output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{execute:?}: {said}");
        assert!(said.contains("CAP_KILL"), "{said}");
        assert!(bed.listens(old));
    }
}

#[test]
fn the_off_file_switches_it_off() {
    let bed = Bed::new();
    let (_service, old) = stranded(&bed);
    let reaper = Reaper::new(&bed, IMPATIENT);
    let switches: [fn(&Path); 3] = [
        |off| fs::write(off, "").unwrap(),
        |off| symlink("nowhere", off).unwrap(),
        |off| fs::create_dir(off).unwrap(),
    ];
    for switch in switches {
        switch(&reaper.off);
        let (json, code) = reaper.json(&["--execute"]);
        assert_eq!((each(&entries(&json, "steps"), "hold"), code), (vec!["off"], 1), "{json:#}");
        assert!(bed.listens(old));
        fs::remove_file(&reaper.off).or_else(|_| fs::remove_dir(&reaper.off)).unwrap();
    }
    let (json, _) = reaper.json(&["--execute"]);
    assert_eq!(each(&entries(&json, "steps"), "result"), ["ended"], "{json:#}");
}

/// The switch is looked up before each signal, also by one that has been running for long.
#[test]
fn the_off_file_stops_a_watching_reaper() {
    let bed = Bed::new();
    let reaper = Reaper::new(&bed, IMPATIENT);
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let _watching = reaper.watch(&["--execute"]);
    fs::write(&reaper.off, "").unwrap();
    let old = service.serving();
    scenes::leave_behind(&bed, &service, old, &["-sf"]);
    reaper.await_rounds(10);
    assert!(bed.listens(old));
    fs::remove_file(&reaper.off).unwrap();
    await_true("its end", || !bed.is_alive(old));
}

#[test]
fn there_is_one_reaper_at_a_time() {
    let bed = Bed::new();
    let reaper = Reaper::new(&bed, IMPATIENT);
    let _watching = reaper.watch(&[]);
    let output = reaper.run(&["--execute"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("another reap is at work"), "{}", text(&output.stderr));
    // A run that changes nothing needs no lock.
    assert_eq!(reaper.run(&[]).status.code(), Some(0));
}

/// Puts something in the place of the state.
type Plant<'a> = Box<dyn Fn() + 'a>;

#[test]
fn a_state_that_cannot_be_trusted_means_no_signal() {
    let bed = Bed::new();
    let (_service, old) = stranded(&bed);
    let reaper = Reaper::new(&bed, IMPATIENT);
    let directory = reaper.state.parent().unwrap();
    fs::create_dir(directory).unwrap();
    let chown = |path: &Path| drop(bed.shell(&format!("chown -h 65534 {}", path.display())));
    let state = &reaper.state;
    let plants: [(&str, Plant<'_>, &str); 6] = [
        (
            "damaged",
            Box::new(|| fs::write(state, "{\"version\":1").unwrap()),
            "not the state of a reaper",
        ),
        (
            "another user's",
            Box::new(|| {
                fs::write(state, "{}").unwrap();
                chown(state);
            }),
            "not a regular file",
        ),
        ("a link", Box::new(|| symlink("/etc/hostname", state).unwrap()), "not a regular file"),
        ("a directory", Box::new(|| fs::create_dir(state).unwrap()), "not a regular file"),
        (
            "of a later version",
            Box::new(|| {
                let text = "{\"version\":9,\"era\":{\"boot_id\":\"\",\"pid_namespace\":0},\"last_run\":null,\
                        \"haproxys\":{},\"processes\":[],\"recent\":[],\"awaited\":[]}";
                fs::write(state, text).unwrap();
            }),
            "later version",
        ),
        (
            "in a directory that all can write",
            Box::new(|| {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
            }),
            "only the reaper writes",
        ),
    ];
    for (what, plant, message) in plants {
        plant();
        for mode in [&["--execute"][..], &["--execute", "--watch"]] {
            let output = reaper.run(mode);
            assert_eq!(output.status.code(), Some(3), "{what} {mode:?}");
            let said = text(&output.stderr);
            assert!(said.contains(message), "{what}: {said}");
        }
        assert!(bed.listens(old), "{what}");
        fs::remove_file(state).or_else(|_| fs::remove_dir(state)).ok();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_signal_that_cannot_be_recorded_is_not_sent() {
    let bed = Bed::new();
    let (_service, old) = stranded(&bed);
    let mut reaper = Reaper::new(&bed, IMPATIENT);
    // A disk without room.
    reaper.audit = "/dev/full".into();
    let output = reaper.run(&["--execute"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("/dev/full: No space left"), "{}", text(&output.stderr));
    assert!(bed.listens(old));
    reaper.audit = bed.directory().join("audit.log");
}

/// No process reads it, so writing would wait for ever.
#[test]
fn an_audit_log_that_is_a_fifo_is_an_error_at_once() {
    let bed = Bed::new();
    let (_service, old) = stranded(&bed);
    let mut reaper = Reaper::new(&bed, IMPATIENT);
    reaper.audit = bed.directory().join("fifo");
    bed.shell(&format!("mkfifo {}", reaper.audit.display()));
    let output = reaper.run(&["--execute"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("fifo: "), "{}", text(&output.stderr));
    assert!(bed.listens(old));
}

/// SIGHUP reads the policy again; a bad one leaves the last good one in force.
#[test]
fn a_watching_reaper_reads_its_policy_again() {
    let bed = Bed::new();
    let (_service, old) = stranded(&bed);
    let patient = IMPATIENT.replace("listening: 0s", "listening: 1h");
    let reaper = Reaper::new(&bed, &patient);
    let watching = reaper.watch(&["--execute"]);
    reaper.await_rounds(5);
    fs::write(&reaper.policy, "defaults: {reap: {listening: soon}}\n").unwrap();
    watching.signal(rustix::process::Signal::HUP);
    await_true("the complaint", || watching.log().contains("invalid configuration"));
    reaper.await_rounds(5);
    assert!(bed.listens(old));
    fs::write(&reaper.policy, IMPATIENT).unwrap();
    watching.signal(rustix::process::Signal::HUP);
    await_true("its end", || !bed.is_alive(old));
}

/// A reaper is killed before each of its system calls that changes something, and another one goes on.
#[test]
fn a_reaper_that_is_killed_at_any_step_has_counted_its_signal() {
    for call in ["pidfd_send_signal", "renameat", "openat:when=1", "fsync", "fdatasync", "write"] {
        let bed = Bed::new();
        let (_service, old) = stranded(&bed);
        let reaper = Reaper::new(&bed, IMPATIENT);
        let (name, when) = call.split_once(':').unwrap_or((call, "when=1"));
        let mut strace = bed.command(tool("strace"));
        strace
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={name}")])
            .args(["-e", &format!("inject={name}:signal=SIGKILL:{when}")])
            .arg(Exporter::binary())
            .args(reaper.arguments(&["--execute"]));
        let killed = strace.output().unwrap();
        assert!(!killed.status.success(), "{call}: {}", text(&killed.stdout));
        let sent = reaper.story().iter().filter(|line| line.starts_with("USR1")).count();
        // The next one goes on from there: it may end the process, or wait for the signal's effect.
        let (json, _) = reaper.json(&["--execute"]);
        await_true("its end", || !bed.is_alive(old) || reaper.json(&["--execute"]).1 == 0);
        assert!(sent <= 1, "{call}: {json:#}");
        assert!(!bed.is_alive(old), "{call}: {json:#}");
    }
}

/// An `emptyDir` of a pod is open to all until the reaper closes it. It closes only a volume of its own in
/// which nothing is yet.
#[test]
fn a_new_volume_is_closed_and_nothing_else_is() {
    let bed = Bed::new();
    let (_service, old) = stranded(&bed);
    let table = [
        ("a volume in which there is something", "mode=0777", "touch STATE/planted", false),
        ("a shared place such as /tmp", "mode=1777", "true", false),
        ("a volume of another user", "mode=0777,uid=65534", "true", false),
        ("a new volume", "mode=0777", "true", true),
    ];
    for (what, options, then, accepted) in table {
        let reaper = Reaper::new(&bed, IMPATIENT);
        let state = reaper.state.parent().unwrap().display().to_string();
        bed.shell(&format!("mkdir {state} && mount -t tmpfs -o {options} none {state}"));
        bed.shell(&then.replace("STATE", &state));
        let output = reaper.run(&["--execute"]);
        let said = text(&output.stdout) + &text(&output.stderr);
        let mode = bed.shell(&format!("stat -c %a {state}"));
        assert_eq!(mode == "755\n", accepted, "{what}: {mode}: {said}");
        assert_eq!(output.status.code() == Some(3), !accepted, "{what}: {said}");
        assert_eq!(said.contains("users other than root"), !accepted, "{what}: {said}");
        assert_eq!(bed.listens(old), !accepted, "{what}: {said}");
    }
    // A directory that is no volume.
    let reaper = Reaper::new(&bed, IMPATIENT);
    let state = reaper.state.parent().unwrap().display().to_string();
    bed.shell(&format!("mkdir -m 777 {state}"));
    let output = reaper.run(&["--execute"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(bed.shell(&format!("stat -c %a {state}")), "777\n");
}
