//! One scene for each kind: how a real host comes to have it.

use std::fs;
use std::time::Duration;

use super::stage::{age_the_file, lbagent, sample, with_own_binary};
use super::support::proxies::{
    BROKEN, PATIENT_ECHO, WAITING_ROOM, WAITING_ROOM_ADDRESS, listeners,
};
use super::support::{Bed, EchoServer, Flow, Manner, await_true, scenes};

/// Stages a kind and gives its sample.
type Scene = fn(&str) -> String;

/// Every kind and its scene.
pub const ALL: [(&str, Scene); 16] = [
    ("port_out_of_range", out_of_range),
    ("port_undeclared", undeclared),
    ("port_missing", missing),
    ("port_stale_listener", |kind| left_behind(kind, Manner::DaemonTransfer)),
    ("port_split", |kind| left_behind(kind, Manner::Daemon)),
    ("port_ephemeral", ephemeral),
    ("port_blocked", blocked),
    ("port_backlog", backlog),
    ("process_idle", idle),
    ("process_zombie", zombies),
    ("process_orphan", orphan),
    ("reload_failed", failed),
    ("reload_raced", raced),
    ("pidfile_mismatch", mismatch),
    ("config_not_loaded", not_loaded),
    ("binary_outdated", outdated),
];

fn out_of_range(kind: &str) -> String {
    let bed = Bed::new();
    lbagent(&bed, Manner::Daemon).configure(&listeners(&[8080, 20001])).start();
    sample(&bed, kind, ", allowed_ports: [\"20000-20010\"]")
}

fn undeclared(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Daemon);
    scenes::serve_with_an_older_file(&bed, &service);
    sample(&bed, kind, "")
}

fn missing(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Daemon);
    service.configure(&scenes::two_frontends()).start();
    scenes::disable_a_frontend(&service);
    sample(&bed, kind, "")
}

/// The pidfile was wrong, so the reload told another process to stop. With a transfer of the sockets both
/// daemons listen on the same ones, else on two.
fn left_behind(kind: &str, manner: Manner) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, manner);
    let old = service.configure(WAITING_ROOM).start();
    scenes::leave_behind(&bed, &service, old, &["-sf", "99999"]);
    sample(&bed, kind, "")
}

fn ephemeral(kind: &str) -> String {
    let bed = Bed::new();
    lbagent(&bed, Manner::Daemon).configure(&listeners(&[40001, 40002])).start();
    sample(&bed, kind, "")
}

/// HAProxy's own connection to a server has the number of a port that was added to the configuration.
fn blocked(kind: &str) -> String {
    let bed = Bed::new();
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let service = lbagent(&bed, Manner::Daemon);
    let serving = service.configure(PATIENT_ECHO).start();
    let _flow = scenes::connect_from_59044(&bed, serving, "32768 60999");
    service.configure(&format!("{PATIENT_ECHO}{}", listeners(&[59044])));
    age_the_file(&bed);
    sample(&bed, kind, "")
}

/// The listener is at its maxconn, and the next clients wait.
fn backlog(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Daemon);
    let serving = service.configure(&format!("{}    maxconn 1\n", scenes::short_queue())).start();
    let _served = Flow::held_by(&bed, WAITING_ROOM_ADDRESS, serving);
    let _waiting = scenes::fill_the_queue(&bed);
    sample(&bed, kind, "")
}

/// The old process waits for a session whose connection is gone.
fn idle(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Daemon);
    let old = service.configure(WAITING_ROOM).start();
    let _flow = scenes::lose_a_connection(&bed, &service);
    service.reload();
    await_true("the old one's soft stop", || !bed.listens(old));
    sample(&bed, kind, "")
}

fn zombies(kind: &str) -> String {
    let bed = Bed::without_reaper();
    let service = lbagent(&bed, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    scenes::leave_two_zombies(&bed, &service);
    sample(&bed, kind, "")
}

fn orphan(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Master);
    service.configure(WAITING_ROOM).start();
    scenes::orphan_the_worker(&bed, &service);
    sample(&bed, kind, "")
}

fn failed(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Master);
    service.configure(WAITING_ROOM).start();
    service.configure(&format!("{WAITING_ROOM}{BROKEN}"));
    age_the_file(&bed);
    service.signal_reload();
    sample(&bed, kind, "")
}

/// Two reloads that were told to replace the same process.
fn raced(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Daemon);
    let old = service.configure(WAITING_ROOM).start();
    for _ in 0..2 {
        assert!(service.launch(&["-sf", &old.to_string()]).status.success());
    }
    await_true("the old one's end", || !bed.is_alive(old));
    sample(&bed, kind, "")
}

fn mismatch(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    fs::write(service.pidfile(), "99999\n").unwrap();
    sample(&bed, kind, "")
}

/// The file counts as edited when it is two seconds younger than the process.
fn not_loaded(kind: &str) -> String {
    let bed = Bed::new();
    let service = lbagent(&bed, Manner::Daemon);
    service.configure(&listeners(&[8011, 8012])).start();
    std::thread::sleep(Duration::from_secs(4));
    service.configure(&listeners(&[8011, 8013]));
    sample(&bed, kind, "")
}

fn outdated(kind: &str) -> String {
    let bed = Bed::new();
    let service = with_own_binary(&bed, lbagent(&bed, Manner::Daemon));
    service.configure(WAITING_ROOM).start();
    scenes::replace_the_binary(&bed, &service);
    sample(&bed, kind, "")
}
