//! `inspect` as a person at a terminal meets it, beside the real HAProxy.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::process::Output;

use serde_json::Value;
use support::*;

const ECHO: &str = "
listen echo
    mode tcp
    bind 127.0.0.1:8002
    option nolinger
    server echo 127.0.0.1:9000
";

fn inspect(bed: &Bed, arguments: &[&str]) -> Output {
    Exporter::command(bed, &[&["inspect"], arguments].concat())
}

/// Where procfs hides the processes of other users, none that is seen does not mean that none runs.
#[test]
fn hidden_processes_are_not_taken_for_none() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(ECHO).start();
    let program = bed.directory().join("exporter");
    std::fs::copy(Exporter::binary(), &program).unwrap();
    let procfs = bed.directory().join("hidden");
    std::fs::create_dir(&procfs).unwrap();
    for hidden in ["1", "2"] {
        let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
        let line = format!(
            "unshare --mount sh -c 'mount -t proc -o hidepid={hidden} proc {0} && exec {user} {1} inspect --path.procfs {0} \"$@\"' sh ",
            procfs.display(),
            program.display(),
        );
        let run = |more: &str| {
            let mut command = bed.command("sh");
            command.args(["-c", &format!("{line}{more}")]);
            command.output().unwrap()
        };
        let output = run("");
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{said}{}", text(&output.stderr));
        assert!(said.starts_with("no HAProxy can be seen; "), "{said}");
        assert!(said.contains("hidepid"), "{said}");
        let page = text(&run("--output prometheus").stdout);
        let page = Page::parse(&page).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(page.value("haproxy_host_haproxys", &[]), None);
        assert_eq!(page.value("haproxy_host_unreadable", &[("what", "process")]), Some(1.0));
    }
}

#[test]
fn a_table_that_fits_and_says_what_to_do() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    service.configure(ECHO);
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let first = service.start();
    let flow = Flow::echoing(&bed, "127.0.0.1:8002");
    service.reload();
    let output = inspect(&bed, &[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    for word in [
        "no problems on 1 haproxy",
        "haproxy haproxy  up",
        "current",
        "draining",
        "2 established",
        "8002",
    ] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
    assert!(!said.contains('\x1b'), "no colour where there is no terminal: {said}");
    assert!(said.lines().all(|line| line.chars().count() <= 120), "{said}");
    drop(flow);
    await_true("the old one to go", || !bed.is_alive(first));

    // A daemon that was not told to stop keeps its listener.
    let stranded = service.serving();
    let launched = service.launch(&["-sf"]);
    assert!(launched.status.success(), "{}", text(&launched.stderr));
    let yaml = bed.write("exporter.yaml", "defaults: {stale_grace: 1s}\n").display().to_string();
    let output = await_some("the stranded one to be seen", || {
        let output = inspect(&bed, &["--config.file", &yaml]);
        (output.status.code() == Some(1)).then_some(output)
    });
    let said = text(&output.stdout);
    for word in [
        "1 problem on 1 haproxy",
        "CRITICAL port_s",
        "127.0.0.1:8002",
        "    why  ",
        &format!("→    kill -USR1 {stranded}"),
    ] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
    assert!(
        said.starts_with('1') && said.find("CRITICAL") < said.find("haproxy haproxy"),
        "causes first:\n{said}"
    );
}

/// The number that began it all: not a listener, and here is why it is taken.
#[test]
fn a_number_and_all_that_holds_it() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_2, Manner::Daemon);
    service.configure(ECHO);
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let serving = service.start();
    let _flow = Flow::echoing(&bed, "127.0.0.1:8002");
    let source = bed.shell("ss -Htn state established dport = :9000");
    let source = source.split_whitespace().nth(2).unwrap().rsplit(':').next().unwrap().to_owned();
    let output = inspect(&bed, &["--port", &source]);
    // What does not fit goes on below.
    let said = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    let why = format!(
        "source port of 127.0.0.1:{source}→127.0.0.1:9000, an outgoing connection of haproxy pid \
         {serving} (current)"
    );
    for word in [why.as_str(), "ephemeral (32768-60999) and not reserved", "not declared"] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
    let output = inspect(&bed, &["--port", &source, "--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = &report["networks"][0]["uses"][0];
    assert_eq!(
        (&found["outgoing"], &found["listener"]),
        (&true.into(), &false.into()),
        "{report:#}"
    );
    assert_eq!(found["holders"][0]["pid"], serving);
    assert_eq!(report["haproxys"][0]["declared"], false);

    let output = inspect(&bed, &["--port", "8002", "--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let uses = report["networks"][0]["uses"].as_array().unwrap();
    assert_eq!((&uses[0]["listener"], &uses[0]["state"]), (&true.into(), &"listen".into()));
    assert!(uses.iter().any(|used| used["outgoing"] == false && used["state"] == "established"));
    assert_eq!(report["haproxys"][0]["declared"], true, "{report:#}");

    assert_eq!(inspect(&bed, &["--port", "0"]).status.code(), Some(2));
    let said = text(&inspect(&bed, &["--port", "7"]).stdout);
    assert!(said.contains("nothing uses it"), "{said}");
}

/// A log socket looks like a UDP listener in every other tool.
#[test]
fn a_log_socket_is_called_one() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    service.configure(&format!("{ECHO}    log 127.0.0.1:514 local0\n    option tcplog\n"));
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    service.start();
    drop(Flow::echoing(&bed, "127.0.0.1:8002"));
    let port = await_some("the log socket", || {
        let sockets = bed.shell("ss -Huanp");
        let line = sockets.lines().find(|line| line.contains("haproxy"))?.to_owned();
        Some(line.split_whitespace().nth(3)?.rsplit(':').next()?.to_owned())
    });
    let said = text(&inspect(&bed, &["--port", &port]).stdout);
    assert!(said.contains("log socket of haproxy pid"), "{said}");
}

#[test]
fn watching_repaints_until_it_is_interrupted() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    service.configure(ECHO);
    service.start();
    // In a background job of a script SIGINT is ignored, and inspect would inherit that.
    let mut command = bed.command("env");
    command.arg("--default-signal=INT").arg(Exporter::binary()).args(["inspect", "--watch"]);
    let running = bed.start(command, "watch.log");
    await_true("two looks", || running.log().matches("haproxy haproxy  up").count() >= 2);
    assert!(!running.log().contains('\x1b'), "no terminal, no escapes: {}", running.log());
    running.signal(rustix::process::Signal::INT);
    let mut running = running;
    await_true("its end", || running.has_ended());
}

/// What `inspect --watch` writes to a terminal of 24 rows, with these variables.
fn on_a_terminal(bed: &Bed, variables: &str, log: &str) -> Running {
    let yaml = bed.write("exporter.yaml", "defaults: {stale_grace: 1s}\n");
    let watch = format!(
        "stty rows 24 cols 100; {variables} exec {} inspect --watch --config.file {}",
        Exporter::binary().display(),
        yaml.display()
    );
    let mut command = bed.command(tool("script"));
    command.args(["--quiet", "--flush", "--command", &watch, "/dev/null"]);
    bed.start(command, log)
}

/// A screen that is cleared flickers, and a change that is not marked is overlooked.
#[test]
fn a_terminal_is_drawn_over_and_changes_are_marked() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    service.configure(ECHO);
    let first = service.start();
    let coloured = on_a_terminal(&bed, "", "coloured.log");
    let plain = on_a_terminal(&bed, "NO_COLOR=1", "plain.log");
    let both = [&coloured, &plain];
    for running in both {
        await_true("two drawings", || {
            running.log().matches("no problems on 1 haproxy").count() >= 2
        });
        assert!(!running.log().contains("* "), "nothing has changed: {}", running.log());
    }
    // Another process without orders leaves the first one stranded.
    assert!(service.launch(&["-sf"]).status.success());
    for running in both {
        await_true("the new process to be marked", || {
            running.log().contains(&format!("* {} ", service.serving()))
        });
        await_true("the cause", || running.log().contains("CRITICAL port_s"));
    }
    await_true("the cause to be marked", || plain.log().contains("\n* CRITICAL port_s"));
    await_true("the mark to be painted", || {
        coloured.log().contains("\x1b[1m* \x1b[0m\x1b[1;31mCRITICAL port_s")
    });
    bed.shell(&format!("kill -USR1 {first}"));
    for running in both {
        await_true("the end of the cause", || running.log().contains("ENDED port_s"));
        await_true("two more drawings", || {
            let log = running.log();
            let (_, after) = log.rsplit_once("ENDED").unwrap();
            after.matches("\x1b[H").count() >= 2
        });
        let log = running.log();
        assert_eq!(log.matches("ENDED port_s").count(), 1, "{log}");
        assert!(log.contains("\x1b[K\r\n") && !log.contains("\x1b[2J"), "{log}");
        let tall = log.split("\x1b[H").find(|drawing| drawing.lines().count() > 24);
        assert_eq!(tall, None, "it would scroll");
    }
    assert!(!plain.log().contains("\x1b[1") && coloured.log().contains("\x1b[1;31m"));
}
