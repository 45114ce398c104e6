//! What is left alone.

use std::fs;

use super::reaper::{IMPATIENT, Reaper, each, entries};
use crate::support::proxies::{ECHO, WAITING_ROOM, WAITING_ROOM_ADDRESS};
use crate::support::*;

for_each_version! {
    a_drain => drain;
    a_drain_that_is_stopped => stopped_drain;
    a_half_closed_connection_that_still_receives => half_closed;
    several_services_from_one_file => twins;
}

/// A client may stay for as long as it likes.
fn drain(version: Version) {
    for manner in [Manner::Daemon, Manner::Master] {
        let bed = Bed::new();
        let _server = EchoServer::start(&bed, "127.0.0.1:9000");
        let service = Service::new(&bed, version, manner);
        service.configure(ECHO).start();
        let old = service.serving();
        let mut flow = Flow::echoing(&bed, "127.0.0.1:8002");
        service.reload();
        let reaper = Reaper::new(&bed, IMPATIENT);
        let _watching = reaper.watch(&["--execute"]);
        reaper.await_rounds(10);
        flow.prove();
        assert!(bed.is_alive(old));
        assert!(reaper.story().is_empty(), "{:?}", reaper.story());
    }
}

/// It has a client and takes no signal.
fn stopped_drain(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let (old, _flow) = scenes::stop_while_draining(&bed, &service);
    let reaper = Reaper::new(&bed, IMPATIENT);
    let _watching = reaper.watch(&["--execute"]);
    reaper.await_rounds(10);
    assert!(bed.is_alive(old));
    assert!(reaper.story().is_empty(), "{:?}", reaper.story());
}

/// Its client has closed the sending half and still receives: bytes move, so nothing is cut.
fn half_closed(version: Version) {
    let bed = Bed::new();
    let ticker = |mut stream: std::net::TcpStream| {
        while std::io::Write::write_all(&mut stream, b".").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    let _server = Server::start(&bed, "127.0.0.1:9000", ticker);
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(ECHO).start();
    let old = service.serving();
    let flow = Flow::held_by(&bed, "127.0.0.1:8002", old);
    service.reload();
    flow.half_close();
    let policy = IMPATIENT.replace("{listening", "{half_closed: 1s, listening");
    let reaper = Reaper::new(&bed, &policy);
    let _watching = reaper.watch(&["--execute"]);
    reaper.await_rounds(10);
    assert!(bed.is_alive(old), "{:?}", reaper.audit());
    assert!(reaper.story().is_empty(), "{:?}", reaper.story());
}

/// Its only client is in a network namespace that has no name any more, and that no other process has.
#[test]
fn a_client_in_a_namespace_that_only_it_keeps() {
    let bed = Bed::new();
    bed.shell("mkdir -p /run/netns && mount -t tmpfs none /run/netns");
    bed.shell("ip netns add blue && ip -n blue link set lo up");
    let service = Service::new(&bed, Version::V2_8, Manner::Daemon);
    let there = WAITING_ROOM.replace("8001", "8001 namespace blue").replace("room", "room-there");
    service.configure(&format!("{there}{WAITING_ROOM}")).start();
    let old = service.serving();
    let mut client = bed.command("ip");
    client.args(["netns", "exec", "blue", "socat", "-u", "TCP:127.0.0.1:8001", "OPEN:/dev/null"]);
    let client = bed.start(client, "client.log");
    await_true("the connection", || {
        let sockets = "ip netns exec blue ss -Htn state established 'sport = :8001'";
        !bed.shell(sockets).is_empty()
    });
    service.configure(WAITING_ROOM);
    service.reload();
    bed.shell("ip netns del blue");
    let reaper = Reaper::new(&bed, IMPATIENT);
    let _watching = reaper.watch(&["--execute"]);
    reaper.await_rounds(15);
    assert!(bed.is_alive(old), "{:?}", reaper.audit());
    assert!(reaper.story().is_empty(), "{:?}", reaper.story());
    client.signal(rustix::process::Signal::TERM);
    await_true("its end", || !bed.is_alive(old));
}

/// Three from one file, without a pidfile: none was superseded by another.
fn twins(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure_raw("global\ndefaults\n timeout connect 1s\n timeout client 1h\n \
         timeout server 1h\nlisten a\n mode tcp\n bind 127.0.0.1:\"${PORT}\"\n server s 127.0.0.1:9\n");
    for port in ["8001", "8002", "8003"] {
        let mut command = bed.command(&service.binary);
        command.args(["-D", "-f"]).arg(service.path("haproxy.cfg")).env("PORT", port);
        assert!(command.status().unwrap().success());
    }
    let pids = await_some("three daemons", || {
        let pids: Vec<i32> =
            bed.pids_of("haproxy").into_iter().filter(|&pid| bed.listens(pid)).collect();
        (pids.len() == 3).then_some(pids)
    });
    let reaper = Reaper::new(&bed, IMPATIENT);
    let (json, code) = reaper.json(&["--execute"]);
    assert_eq!(code, 0, "{json:#}");
    assert_eq!(json["haproxys"].as_array().unwrap().len(), 3, "{json:#}");
    for kind in ["steps", "held", "waiting"] {
        assert!(entries(&json, kind).is_empty(), "{json:#}");
    }
    assert!(pids.iter().all(|&pid| bed.listens(pid)));
}

/// The serving process is stopped, so the old one may be the only one that answers.
#[test]
fn the_only_one_that_answers() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let old = service.serving();
    scenes::leave_behind(&bed, &service, old, &["-sf"]);
    let new = service.serving();
    bed.kill("STOP", new);
    let reaper = Reaper::new(&bed, IMPATIENT);
    let (json, code) = reaper.json(&["--execute"]);
    assert_eq!(
        (each(&entries(&json, "held"), "hold"), code),
        (vec!["serving_halted"], 1),
        "{json:#}"
    );
    assert!(bed.listens(old));
    bed.kill("CONT", new);
    let (json, _) = reaper.json(&["--execute"]);
    assert_eq!(each(&entries(&json, "steps"), "signal"), ["USR1"], "{json:#}");
}

/// The service is down, and what is left of it drains: even where the policy would cut its clients.
#[test]
fn the_last_one_of_a_service_that_is_down() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let old = service.serving();
    let _flow = Flow::held_by(&bed, WAITING_ROOM_ADDRESS, old);
    let new = service.reload();
    let reaper = Reaper::new(&bed, IMPATIENT);
    let watching = reaper.watch(&["--execute"]);
    bed.kill("KILL", new);
    await_true("its end", || !bed.is_alive(new));
    reaper.await_rounds(2);
    let impatient = IMPATIENT.replace("{listening", "{draining: 0s, listening");
    fs::write(&reaper.policy, impatient).unwrap();
    watching.signal(rustix::process::Signal::HUP);
    await_true("the reason", || {
        watching.log().contains("no current process of this HAProxy serves")
    });
    reaper.await_rounds(5);
    assert!(bed.is_alive(old), "{:?}", reaper.story());
    // Once the service is back, the policy is what counts.
    service.start();
    await_true("its end", || !bed.is_alive(old));
}

/// Traced by a debugger, as by strace.
#[test]
fn what_a_debugger_holds() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let old = service.serving();
    scenes::leave_behind(&bed, &service, old, &["-sf"]);
    let mut strace = bed.command(tool("strace"));
    strace.args(["-f", "-o", "/dev/null", "-p", &old.to_string()]);
    let _strace = bed.start(strace, "strace.log");
    let traced = |status: String| !status.contains("TracerPid:\t0\n");
    await_true("the tracer", || bed.process_file(old, "status").is_some_and(traced));
    let reaper = Reaper::new(&bed, IMPATIENT);
    let (json, code) = reaper.json(&["--execute"]);
    assert_eq!((each(&entries(&json, "held"), "hold"), code), (vec!["traced"], 1), "{json:#}");
    assert!(bed.listens(old));
}

/// Only what the configuration or a person names is looked at.
#[test]
fn what_no_one_has_named() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(WAITING_ROOM).start();
    let old = service.serving();
    scenes::leave_behind(&bed, &service, old, &["-sf"]);
    let reaper = Reaper::new(&bed, "defaults: {stale_grace: 1s}\n");
    let (json, code) = reaper.json(&["--execute"]);
    assert_eq!((json["haproxys"].as_array().unwrap().len(), code), (0, 0), "{json:#}");
    let shown = text(&reaper.run(&[]).stdout);
    assert!(shown.contains("--haproxy"), "{shown}");
    assert!(bed.listens(old));

    // Named, it is judged by the defaults, of which one is patience.
    let (json, code) = reaper.json(&["--haproxy", "haproxy"]);
    assert_eq!((entries(&json, "waiting").len(), code), (1, 0), "{json:#}");
    let errors = [
        (vec!["--haproxy", "x"], "unknown haproxy \"x\"; known: haproxy"),
        (vec!["--pid", "1"], "no HAProxy process has the pid 1"),
    ];
    for (arguments, message) in errors {
        let output = reaper.run(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
    }
    let serving = service.serving().to_string();
    let output = reaper.run(&["--pid", &serving]);
    assert!(text(&output.stderr).contains("is current, not stale"), "{}", text(&output.stderr));
    assert!(fs::read(&reaper.state).is_ok(), "the first run executed, and so kept its state");
}

/// With the procfs of the host its own pid is the same number by chance, and still its signals reach other processes.
#[test]
fn processes_of_another_pid_namespace() {
    let bed = Bed::new();
    let host = bed.directory().join("host").display().to_string();
    bed.shell(&format!("mkdir {host} && mount --bind /proc {host}"));
    let reaper = Reaper::new(&bed, IMPATIENT);
    let script = "mount -t proc proc /proc
        number=$(readlink $0/self)
        echo $number >/proc/sys/kernel/ns_last_pid
        sh -c 'while read -r key outer inner; do
            [ $key != NSpid: ] || echo $outer $inner
        done <$0/self/status; exec \"$@\"' $0 \"$@\"";
    let same_number = || {
        let mut command = bed.command("unshare");
        command.args(["--pid", "--mount", "--fork", "sh", "-c", script, &host]);
        command.arg(Exporter::binary());
        command.args(reaper.arguments(&["--path.procfs", &host, "--execute"]));
        let output = command.output().unwrap();
        let (said, why) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{said}{why}");
        assert!(why.contains("another pid namespace"), "{why}");
        let mut numbers = said.split_whitespace();
        let (outer, inner) = (numbers.next(), numbers.next());
        outer.is_some() && outer == inner
    };
    await_true("one number in both namespaces", same_number);
}
