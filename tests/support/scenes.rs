//! Brings a service into a state that the exporter calls an anomaly. What the tests expect of it is theirs.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use super::proxies::{WAITING_ROOM, WAITING_ROOM_ADDRESS, listeners};
use super::{Bed, Flow, Service, await_true};

/// Stops the old process of a reload after its soft stop. It keeps the one connection that is returned,
/// and is idle when that is reset.
pub fn stop_while_draining(bed: &Bed, service: &Service<'_>) -> (i32, Flow) {
    let old = service.serving();
    let flow = Flow::held_by(bed, WAITING_ROOM_ADDRESS, old);
    service.reload();
    await_true("the old one's soft stop", || !bed.listens(old));
    bed.kill("STOP", old);
    (old, flow)
}

/// Closes the descriptor of a connection without ending the session, so that HAProxy waits for it in vain, as
/// after a leaked job.
pub fn lose_a_connection(bed: &Bed, service: &Service<'_>) -> Flow {
    let flow = Flow::held_by(bed, WAITING_ROOM_ADDRESS, service.serving());
    let sockets = bed.shell("ss -Htnp state established 'sport = :8001'");
    let descriptor = sockets.split("fd=").nth(1).unwrap().split(')').next().unwrap();
    let close = format!("expert-mode on; debug dev close {descriptor}");
    service.ask("admin.sock", &close).expect("an answer");
    await_true("the connection closed", || bed.connections(service.serving()) == 0);
    flow
}

/// Reloads twice in a bed whose pid 1 reaps no process.
pub fn leave_two_zombies(bed: &Bed, service: &Service<'_>) {
    for which in ["a first zombie", "a second zombie"] {
        let old = service.serving();
        service.reload();
        await_true(which, || bed.state(old) == Some('Z'));
    }
}

/// Stops the worker and kills its master, so that the worker cannot notice.
pub fn orphan_the_worker(bed: &Bed, service: &Service<'_>) -> i32 {
    let worker = service.serving();
    bed.kill("STOP", worker);
    bed.kill("KILL", service.master());
    worker
}

/// Starts a daemon with arguments that do not name the `old` one, which so keeps its listeners.
pub fn leave_behind(bed: &Bed, service: &Service<'_>, old: i32, arguments: &[&str]) {
    assert!(service.launch(arguments).status.success());
    assert!(bed.listens(old), "the first was never told to stop");
}

/// Serves more ports than the file on disk declares, which is as old as it was before they were added.
pub fn serve_with_an_older_file(bed: &Bed, service: &Service<'_>) {
    service.configure(&listeners(&[8011]));
    let (file, backup) = (service.path("haproxy.cfg"), service.path("backup"));
    bed.shell(&format!(
        "touch -d '1 hour ago' {file} && cp -p {file} {backup}",
        file = file.display(),
        backup = backup.display()
    ));
    service.configure(&listeners(&[8011, 8012])).start();
    fs::rename(&backup, &file).unwrap();
}

/// Disables the frontend of two of the three ports of [`two_frontends`].
pub fn disable_a_frontend(service: &Service<'_>) {
    service.ask("admin.sock", "disable frontend many").expect("an answer");
}

/// One proxy on one port and one on two, for [`disable_a_frontend`].
pub fn two_frontends() -> String {
    format!("{WAITING_ROOM}{}", listeners(&[8011, 8012]))
}

/// A listener whose accept queue holds three connections.
pub fn short_queue() -> String {
    WAITING_ROOM.replace(WAITING_ROOM_ADDRESS, "127.0.0.1:8001 backlog 3")
}

/// Connects until the queue of [`short_queue`] is full, and keeps the connections.
pub fn fill_the_queue(bed: &Bed) -> Vec<TcpStream> {
    let address = WAITING_ROOM_ADDRESS.parse().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
    let waiting: Vec<_> = bed.inside(|| (0..8).filter_map(|_| connect()).collect());
    assert!((3..8).contains(&waiting.len()), "{} connections are waiting", waiting.len());
    waiting
}

/// Lets the connection of the serving process to the server of `PATIENT_ECHO` have 59044 as its source port,
/// and gives the kernel a range of ports and no reserved ones afterwards.
pub fn connect_from_59044(bed: &Bed, serving: i32, range_afterwards: &str) -> Flow {
    let mut flow = Flow::held_by(bed, "127.0.0.1:8002", serving);
    // For a moment the kernel has but one number to give.
    bed.sysctl("ipv4/ip_local_port_range", "59044 59045");
    bed.sysctl("ipv4/ip_local_reserved_ports", "59045");
    flow.prove();
    await_true("the connection from 59044", || bed.connections(serving) == 2);
    bed.sysctl("ipv4/ip_local_port_range", range_afterwards);
    bed.shell("echo >/proc/sys/net/ipv4/ip_local_reserved_ports");
    flow
}

/// Replaces the executable of a service, as the upgrade of a package does.
pub fn replace_the_binary(bed: &Bed, service: &Service<'_>) {
    let binary = service.binary.display();
    bed.shell(&format!("cp {binary} {binary}.new && mv {binary}.new {binary}"));
}
