//! `check` asks HAProxy itself: its own service's, or the one of an upgrade, and never one that another
//! user could have put there.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::*;

const WAITING: &str = "defaults\n    mode tcp\n    timeout client 1h\n    timeout connect 1s\n    \
    timeout server 1h\nfrontend f\n    bind 127.0.0.1:8001\n";

/// The HAProxys that are being asked just now. Their names are the numbers of a descriptor.
fn asked(bed: &Bed) -> Vec<i32> {
    let pids = fs::read_dir(bed.procfs()).unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_asked = |pid: &i32| {
        let line = bed.process_file(*pid, "cmdline").unwrap_or_default();
        line.split('\0').next().is_some_and(|name| name.ends_with("/haproxy"))
            && line.contains("\0-c\0")
    };
    pids.filter(is_asked).collect()
}

fn path(service: &Service<'_>) -> String {
    service.path("haproxy.cfg").display().to_string()
}

/// A configuration that writes to a file whenever a HAProxy reads it.
fn marking(bed: &Bed, marker: &Path) -> String {
    let script = format!(
        "local f = io.open('{}', 'a'); f:write((os.getenv('LD_PRELOAD') or 'none') .. \
         (os.getenv('PORT') or '')); f:close()\n",
        marker.display()
    );
    let script = bed.write(&format!("{}.lua", marker.file_name().unwrap().display()), &script);
    format!("global\n    lua-load {}\n{WAITING}", script.display())
}

/// What HAProxy refuses is an error at its line, and what it accepts is not.
fn own_service(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Daemon);
    service.configure(WAITING);
    service.start();
    let accepts = format!("({}) accepts this configuration", service.binary.display());
    assert_exit(&bed, &["--haproxy", "haproxy"], 0, &[&accepts, version.name()]);
    service.configure(&format!("{WAITING}    not-a-keyword here\n"));
    let refused = ["error[config_invalid]", "not-a-keyword", "haproxy.cfg:16", "refuses this"];
    assert_exit(&bed, &["--haproxy", "haproxy"], 1, &refused);
    let said = assert_exit(&bed, &["--haproxy", "haproxy", "--no-binary"], 0, &[]);
    assert!(!said.contains("accepts") && !said.contains("not asked"), "{said}");
}

for_each_version! {
    the_executable_of_the_own_service => own_service;
}

#[test]
fn an_upgrade_is_judged_by_the_new_version() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Master);
    let text = format!(
        "{WAITING}    bind-process 1\n.if version_atleast(2.8)\n    bind 127.0.0.1:8002\n.endif\n"
    );
    service.configure(&text);
    service.start();
    let ports = |arguments: &[&str]| -> Vec<u64> {
        let report = check_json(&bed, arguments);
        let listeners = report["listeners"].as_array().unwrap().clone();
        listeners.iter().map(|listener| listener["port"].as_u64().unwrap()).collect()
    };
    let file = path(&service);
    assert_eq!(ports(&["-f", &file]), [8001]);
    let newer = Version::V2_8.binary().display().to_string();
    assert_eq!(ports(&["-f", &file, "--binary", &newer]), [8001, 8002]);
    let words = [
        "error[upgrade_removed]",
        "haproxy.cfg:16",
        "HAProxy 2.7 refuses 'bind-process'",
        "src/cfgparse-listen.c",
        "refuses this configuration",
    ];
    assert_exit(&bed, &["-f", &file, "--binary", &newer], 1, &words);
    service.configure(WAITING);
    let newest = Version::V3_4.binary().display().to_string();
    let said = assert_exit(&bed, &["-f", &file, "--binary", &newest], 0, &["info[upgrade_note]"]);
    assert!(said.contains("outlived 50 reloads") && said.contains("036722737"), "{said}");
    let report = check_json(&bed, &["-f", &file, "--binary", &newest]);
    assert_eq!(report["binaries"][0]["accepted"], true, "{report:#}");
    let kinds = report["anomalies"].as_array().unwrap().iter().map(|a| a["severity"].clone());
    assert!(kinds.into_iter().all(|severity| severity == "info"), "{report:#}");
}

/// Another user runs a HAProxy of its own: nothing of it is executed for root.
#[test]
fn what_another_user_runs_is_never_executed() {
    let bed = Bed::new();
    let marker = bed.directory().join("marker");
    fs::write(&marker, "").unwrap();
    std::os::unix::fs::chown(&marker, Some(65534), None).unwrap();
    let file = bed.write("user.cfg", &marking(&bed, &marker));
    let mut command = bed.command(tool("setpriv"));
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(Version::V3_0.binary()).args(["-db", "-f"]).arg(&file);
    let serving = bed.start(command, "user.log");
    await_true("the user's HAProxy", || bed.listens(serving.pid()));
    assert_eq!(fs::read_to_string(&marker).unwrap(), "none", "its owner has started it once");
    let words = ["HAProxy itself was not asked: another user runs user@65534"];
    assert_exit(&bed, &["--haproxy", "user@65534"], 0, &words);
    let own = file.display().to_string();
    let newer = Version::V3_2.binary().display().to_string();
    assert_exit(&bed, &["-f", &own], 0, &words);
    assert_exit(&bed, &["-f", &own, "--binary", &newer], 0, &words);
    assert_exit(&bed, &[], 0, &words);
    assert_eq!(fs::read_to_string(&marker).unwrap(), "none", "nothing of it ran for root");
}

/// Root's HAProxy runs from a place that another user can change, or reads such a file.
#[test]
fn what_another_user_can_change_is_not_executed_unless_it_is_named() {
    let bed = Bed::new();
    let place = bed.directory().join("planted");
    fs::create_dir(&place).unwrap();
    let binary = place.join("haproxy");
    copy_program(Version::V3_0.binary(), &binary);
    let marker = bed.directory().join("marker");
    let mut service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    service.binary.clone_from(&binary);
    service.configure(&marking(&bed, &marker));
    service.start();
    let runs = || fs::read_to_string(&marker).unwrap().matches("none").count();
    assert_eq!(runs(), 1);
    assert_exit(&bed, &["--haproxy", "haproxy"], 0, &["accepts this configuration"]);
    assert_eq!(runs(), 2, "root's own, which no other user can change");
    std::os::unix::fs::chown(&place, Some(65534), None).unwrap();
    let remedy =
        "above it: let only you or root own and write it (chown, chmod), or, if you trust it";
    let words = ["not asked: another user can change", "planted/haproxy or a directory", remedy];
    assert_exit(&bed, &["--haproxy", "haproxy"], 0, &words);
    assert_eq!(runs(), 2);
    let named = binary.display().to_string();
    assert_exit(&bed, &["--haproxy", "haproxy", "--binary", &named], 0, &["accepts"]);
    assert_eq!(runs(), 3, "the caller's own word");
    std::os::unix::fs::chown(&place, Some(0), None).unwrap();
    let file = PathBuf::from(path(&service));
    std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    let words = ["not asked: another user can change", "haproxy.cfg"];
    assert_exit(&bed, &["--haproxy", "haproxy"], 0, &words);
    assert_eq!(runs(), 3);
}

/// The service's environment reaches HAProxy only as far as the configuration reads it, and nothing that
/// would change the loader does.
#[test]
fn the_environment_is_that_of_the_service_without_what_is_dangerous() {
    let bed = Bed::new();
    let marker = bed.directory().join("marker");
    let mut service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    let text = marking(&bed, &marker)
        .replace("127.0.0.1:8001", "\"127.0.0.1:${PORT}\" name \"x${LD_PRELOAD}\"");
    let needs =
        bed.write("needs.lua", "assert(os.getenv('TOKEN') and not os.getenv(\"OTH\" .. \"ER\"))\n");
    service.configure(
        &text.replace("global\n", &format!("global\n    lua-load {}\n", needs.display())),
    );
    service.wrapper =
        ["env", "TOKEN=1", "PORT=8001", "LD_PRELOAD=/nowhere.so"].map(str::to_owned).to_vec();
    service.start();
    assert!(fs::read_to_string(&marker).unwrap().starts_with("/nowhere.so"));
    fs::write(&marker, "").unwrap();
    assert_exit(&bed, &["--haproxy", "haproxy"], 0, &["accepts this configuration"]);
    assert_eq!(fs::read_to_string(&marker).unwrap(), "none8001");
}

/// A HAProxy that does not end is killed, and nothing is known.
#[test]
fn what_hangs_is_no_verdict() {
    let bed = Bed::new();
    let script = bed.write("endless.lua", "while true do end\n");
    let file = bed.write("endless.cfg", &format!("global\n    lua-load {}\n", script.display()));
    let (file, binary) = (file.display().to_string(), Version::V3_0.binary().display().to_string());
    let arguments = ["-f", &file, "--binary", &binary, "--timeout", "2s"];
    assert_exit(&bed, &arguments, 3, &["/haproxy: it did not end within 1s"]);
    await_true("the end of what hung", || asked(&bed).is_empty());
}

#[test]
fn an_executable_that_is_none() {
    let bed = Bed::new();
    let file = bed.write("a.cfg", WAITING).display().to_string();
    let script = bed.write("haproxy.sh", "#!/bin/sh\n").display().to_string();
    let table = [
        ("/nonexistent", "No such file or directory"),
        ("/usr", "/usr is not a file"),
        ("/proc/self/exe", "/proc/self/exe lies on procfs, sysfs or FUSE; name the file itself"),
        (&script, "is not a program; name HAProxy's own executable"),
        ("/bin/true", "is not HAProxy: -v names no version"),
    ];
    for (binary, words) in table {
        assert_exit(&bed, &["-f", &file, "--binary", binary], 2, &[words, "--binary"]);
    }
}

/// Root's HAProxy starts where another user may write: a script could require what is put there.
#[test]
fn what_another_user_can_put_in_the_way_is_not_executed() {
    let bed = Bed::new();
    let marker = bed.directory().join("marker");
    let helper = bed.directory().join("home/helper.lua");
    fs::create_dir(helper.parent().unwrap()).unwrap();
    let script = format!("io.open('{}', 'w'):close()\n", marker.display());
    let config = |lua: &Path| format!("global\n    lua-load {}\n{WAITING}", lua.display());
    let mut service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    let requires = bed.write("requires.lua", "pcall(require, 'helper')\n");
    service.configure_raw(&config(&requires));
    service.wrapper =
        ["env".to_owned(), format!("--chdir={}", bed.directory().join("home").display())].to_vec();
    service.start();
    let file = path(&service);
    assert_exit(&bed, &["-f", &file], 0, &["accepts this configuration"]);
    fs::write(&helper, &script).unwrap();
    let put_there = |owner| std::os::unix::fs::chown(helper.parent().unwrap(), Some(owner), None);
    put_there(65534).unwrap();
    let words = ["not asked: another user can change", "/home, where it would start"];
    assert_exit(&bed, &["-f", &file], 0, &words);
    assert_exit(&bed, &[], 0, &words);
    put_there(0).unwrap();
    std::os::unix::fs::chown(&helper, Some(65534), None).unwrap();
    service.configure_raw(&config(&helper));
    let words = ["not asked: another user can change", "/home/helper.lua: let only you or root"];
    assert_exit(&bed, &["-f", &file], 0, &words);
    assert!(!marker.exists(), "another user's script ran");
    let binary = service.binary.display().to_string();
    assert_exit(&bed, &["-f", &file, "--binary", &binary], 0, &["accepts this configuration"]);
    assert!(marker.exists(), "the caller's own word");
}

/// Any user could add a file to a directory like /tmp between the look and HAProxy's own.
#[test]
fn a_configuration_directory_to_which_others_can_add_is_not_executed() {
    let bed = Bed::new();
    let parts = bed.directory().join("conf.d");
    fs::create_dir(&parts).unwrap();
    fs::write(parts.join("a.cfg"), WAITING).unwrap();
    let mut service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    let pidfile = service.pidfile().display().to_string();
    let parts_name = parts.display().to_string();
    service.arguments = ["-p", &pidfile, "-f", &parts_name].map(str::to_owned).to_vec();
    service.start();
    let own = Exporter::command(&bed, &["check"]);
    assert!(text(&own.stdout).contains("accepts this configuration"), "{}", text(&own.stdout));
    fs::set_permissions(&parts, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    assert_exit(&bed, &[], 0, &["not asked: another user can change", "/conf.d"]);
}

/// The time is that of the whole check: what would still run at its end would stay behind.
#[test]
fn several_that_hang_all_end() {
    let bed = Bed::new();
    let endless = bed.write("endless.lua", "while true do end\n");
    for (name, port) in [("one", "8001"), ("two", "8002")] {
        let service = Service::named(&bed, Version::V3_0, Manner::Daemon, name);
        let proxies = WAITING.replace("8001", port);
        service.configure_raw(&proxies);
        service.start();
        service.configure_raw(&format!("global\n    lua-load {}\n{proxies}", endless.display()));
    }
    assert_exit(&bed, &["--timeout", "4s"], 3, &["did not end within"]);
    await_true("the end of what hung", || asked(&bed).is_empty());
}

#[test]
fn what_loops_ends_although_check_was_killed() {
    let bed = Bed::new();
    let endless = bed.write("endless.lua", "while true do end\n");
    let file = bed.write("endless.cfg", &format!("global\n    lua-load {}\n", endless.display()));
    let mut check = bed.command(Exporter::binary());
    check.args(["check", "--timeout", "3s", "-f"]).arg(&file);
    check.arg("--binary").arg(Version::V3_0.binary());
    let mut check = bed.start(check, "check.log");
    let looping = await_some("HAProxy", || asked(&bed).pop());
    let checking = bed.pids_of("haproxy-host-ex");
    assert!(!checking.is_empty());
    for pid in checking {
        bed.kill("KILL", pid);
    }
    check.exit_code();
    await_true("the end of what looped", || !bed.is_alive(looping));
}

/// A reload uses these switches, and what they accept is no error.
#[test]
fn what_the_service_accepts_by_its_switches_is_accepted() {
    let bed = Bed::new();
    let server = "    default_backend b\nbackend b\n    server s nonexistent.invalid:80\n";
    let mut resolves = Service::named(&bed, Version::V3_0, Manner::Daemon, "resolves");
    resolves.configure(&format!("{WAITING}{server}"));
    resolves.arguments.push("-dr".to_owned());
    resolves.start();
    assert_exit(&bed, &["-f", &path(&resolves)], 0, &["accepts this configuration"]);
    for version in [Version::V2_6, Version::V3_0] {
        let programs = Service::named(&bed, version, Manner::Master, version.name());
        let proxies =
            WAITING.replace("8001", if version == Version::V2_6 { "8002" } else { "8003" });
        programs.configure_raw(&format!("{proxies}program p\n    command sleep 1000\n"));
        programs.start();
        assert_exit(&bed, &["-f", &path(&programs)], 0, &["accepts this configuration"]);
    }
}

#[test]
fn a_refusal_without_a_reason_is_said_to_have_none() {
    let bed = Bed::new();
    let file = bed.write("a.cfg", &format!("{WAITING}program p\n    command sleep 1\n"));
    let (file, binary) = (file.display().to_string(), Version::V3_2.binary().display().to_string());
    let words = ["HAProxy refuses this configuration, and does not say why"];
    let said = assert_exit(&bed, &["-f", &file, "--binary", &binary], 1, &words);
    assert!(!said.contains("[ALERT]"), "{said}");
}

/// A certificate that the caller may not read is not a wrong one.
#[test]
fn what_the_caller_may_not_read_is_no_error_of_the_configuration() {
    let bed = Bed::new();
    let secret = bed.write("secret.pem", "");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = WAITING.replace(":8001", &format!(":8001 ssl crt {}", secret.display()));
    let file = bed.write("a.cfg", &text);
    for version in Version::ALL {
        let mut command = bed.command(tool("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(Exporter::binary());
        command.args(["check", "--offline", "-f"]).arg(&file);
        let output = command.arg("--binary").arg(version.binary()).output().unwrap();
        let said = text_of(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("secret.pem") && said.contains("gave no answer"), "{said}");
    }
}

fn text_of(output: &std::process::Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
