//! What is ended, and how.

use std::fs;

use super::reaper::{IMPATIENT, Reaper, each, entries};
use crate::support::proxies::{ECHO, WAITING_ROOM, listeners};
use crate::support::*;

for_each_version! {
    a_stranded_daemon => |version| stranded(version, Manner::Daemon);
    a_stranded_daemon_that_handed_its_sockets_over => |version| stranded(version, Manner::DaemonTransfer);
    a_worker_of_a_master_that_was_forgotten => forgotten_master;
    an_idle_daemon => |version| idle(version, Manner::Daemon);
    an_idle_worker => |version| idle(version, Manner::Master);
}

/// One SIGUSR1 makes it let go of its listeners; the client that it holds goes on.
fn stranded(version: Version, manner: Manner) {
    let bed = Bed::new();
    let _server = EchoServer::start(&bed, "127.0.0.1:9000");
    let service = Service::new(&bed, version, manner);
    service.configure(&format!("{ECHO}{}", listeners(&[8011]))).start();
    let old = service.serving();
    let mut flow = Flow::echoing(&bed, "127.0.0.1:8002");
    service.configure(ECHO);
    scenes::leave_behind(&bed, &service, old, &["-sf"]);
    let new = service.serving();
    let reaper = Reaper::new(&bed, IMPATIENT);

    let (proposed, code) = reaper.json(&[]);
    let steps = entries(&proposed, "steps");
    assert_eq!((each(&steps, "signal"), code), (vec!["USR1"], 1), "{proposed:#}");
    assert_eq!(steps[0]["pid"], old);
    assert_eq!(steps[0]["superseded"]["by"], new);
    assert!(bed.listens(old), "a dry run signals nothing");
    assert!(!reaper.audit.exists() || reaper.audit().is_empty());
    assert!(!reaper.state.exists(), "and leaves nothing behind");

    let (done, code) = reaper.json(&["--execute"]);
    let steps = entries(&done, "steps");
    assert_eq!((each(&steps, "result"), code), (vec!["drains"], 0), "{done:#}");
    assert!(!bed.listens(old));
    flow.prove();
    assert_eq!(reaper.story(), [format!("USR1 {old}"), format!("drains {old}")]);
    // The deleted port is given back; the other one is served on.
    let given_back = &steps[0]["given_back"];
    assert_eq!(given_back[0]["port"], "tcp 127.0.0.1:8011", "{done:#}");
    assert_eq!(given_back[0]["bindable"], true, "{done:#}");
    assert_eq!(given_back.as_array().unwrap().len(), 1);

    // While it drains there is nothing left to end, and when its client goes it goes.
    let (drains, code) = reaper.json(&["--execute"]);
    assert_eq!((entries(&drains, "waiting").len(), code), (1, 0), "{drains:#}");
    flow.prove();
    drop(flow);
    await_true("its end", || !bed.is_alive(old));
    let (nothing, code) = reaper.json(&[]);
    assert_eq!((entries(&nothing, "waiting").len(), code), (0, 0), "{nothing:#}");
    assert_eq!(service.serving(), new);
}

/// A second master is started with an empty list: the first one and its worker are not told. The worker lets go of
/// its listeners; its master is left to end by itself.
fn forgotten_master(version: Version) {
    let bed = Bed::new();
    let _server = EchoServer::start(&bed, "127.0.0.1:9000");
    let service = Service::new(&bed, version, Manner::Master);
    service.configure(ECHO);
    let start = |socket: &str, list: &[&str]| {
        let mut command = bed.command(&service.binary);
        command.args(["-W", "-D"]).args(&service.arguments).arg("-S").arg(service.path(socket));
        let log = fs::File::create(service.path("start.log")).unwrap();
        let status = command.args(list).stdout(log.try_clone().unwrap()).stderr(log).status();
        assert!(status.unwrap().success(), "{:?}", fs::read_to_string(service.path("start.log")));
    };
    let worker_of_another = |master: i32| {
        let workers = bed.children(service.daemon().filter(|pid| *pid != master)?);
        workers.into_iter().find(|&worker| bed.listens(worker))
    };
    start("first.sock", &[]);
    let old = await_some("a worker", || worker_of_another(0));
    let master = service.master();
    let mut flow = Flow::echoing(&bed, "127.0.0.1:8002");
    start("second.sock", &["-sf"]);
    let new = await_some("a second worker", || worker_of_another(master));
    assert!(bed.listens(old), "the first was never told");
    let reaper = Reaper::new(&bed, IMPATIENT);
    // A new worker may still be starting for ten seconds.
    let watching = reaper.watch(&["--execute"]);
    await_within(2 * PATIENCE, "the soft stop", || (!bed.listens(old)).then_some(()));
    flow.prove();
    assert!(!bed.listens(old) && bed.listens(new));
    drop(flow);
    await_true("its end", || !bed.is_alive(old));
    let story = reaper.story();
    assert!(story.iter().all(|line| line.ends_with(&format!(" {old}"))), "{story:?}");
    assert!(!story.is_empty() && bed.listens(new), "{}", watching.log());
}

/// It waits for a client that is gone: SIGUSR1 does nothing to it, SIGTERM ends it.
fn idle(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(WAITING_ROOM).start();
    let old = service.serving();
    let _flow = scenes::lose_a_connection(&bed, &service);
    let new = service.reload();
    await_true("the old one's soft stop", || !bed.listens(old));
    let reaper = Reaper::new(&bed, IMPATIENT);
    let _watching = reaper.watch(&["--execute"]);
    await_true("its end", || !bed.is_alive(old));
    await_true("the outcome", || reaper.story().len() == 4);
    let story = ["USR1", "unchanged", "TERM", "ended"].map(|word| format!("{word} {old}"));
    assert_eq!(reaper.story(), story);
    assert!(bed.listens(new));
    let intent = &reaper.audit()[2];
    assert!(intent["reason"].as_str().unwrap().contains("SIGUSR1 had no effect"), "{intent}");
}

/// The metrics of `serve` come from the state file.
#[test]
fn serve_shows_what_was_done() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let old = service.serving();
    scenes::leave_behind(&bed, &service, old, &["-sf"]);
    let reaper = Reaper::new(&bed, IMPATIENT);
    let mut command = bed.command(Exporter::binary());
    command.arg("--reap.state-file").arg(&reaper.state);
    let exporter = Exporter::launched(&bed, command, IMPATIENT);
    let page = exporter.await_samples(2);
    assert_eq!(page.value("haproxy_host_reap_last_run_success", &[]), None, "no state file");

    let mut dry = reaper.watch(&[]);
    let pending = |page: &Page, count| page.is("haproxy_host_reap_pending", &[], count);
    let page = exporter.await_page("a pending step", |page| pending(page, 1.0));
    let listening = [("signal", "USR1"), ("state", "listening")];
    assert!(page.sum("haproxy_host_reap_steps_total", &listening) < 0.5);
    assert!(page.is("haproxy_host_reap_last_run_success", &[], 1.0));
    dry.signal(rustix::process::Signal::TERM);
    assert_eq!(dry.exit_code(), 0);

    let _watching = reaper.watch(&["--execute"]);
    let page = exporter.await_page("a step", |page| {
        page.sum("haproxy_host_reap_steps_total", &listening) > 0.5 && pending(page, 0.0)
    });
    assert!(page.is("haproxy_host_reap_ports_released_total", &[], 1.0));
    exporter.await_page("no anomaly", |page| page.anomalies_are(&[]));
    fs::write(&reaper.off, "").unwrap();
}
