//! Claims about root's `HAProxy`s by the processes of another user change nothing that is said of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::cgroup::Cgroup;
use super::other_user::{GLOBAL, OtherUser};
use super::series::{lasting, report_difference};
use crate::support::*;

/// Enough for a grace of 1 s and for the two samples after it.
const SAMPLES: usize = 9;

for_each_version! { [v2_6 V2_6, v3_4 V3_4]
    another_users_claims_change_nothing => another_users_claims_change_nothing;
}

/// Root's services: by daemons and by masters, configured and discovered. `enter` is a shell's way
/// into a cgroup.
fn roots_services<'b>(bed: &'b Bed, version: Version, enter: &str) -> Vec<Service<'b>> {
    let manners = [
        ("configured-daemon", Manner::Daemon),
        ("configured-master", Manner::Master),
        ("daemon", Manner::Daemon),
        ("master", Manner::Master),
    ];
    let services = manners.into_iter().enumerate().map(|(number, (name, manner))| {
        let mut service = Service::named(bed, version, manner, name);
        let shell = ["sh", "-c", &format!("{enter}exec \"$@\""), "sh"].map(str::to_owned);
        let port = ["env".to_owned(), format!("PORT={}", 8001 + number)];
        service.wrapper = shell.into_iter().chain(port).collect();
        service.configure_raw(&format!("{GLOBAL}    bind \"127.0.0.1:${{PORT}}\"\n"));
        service
    });
    services.collect()
}

/// A service of root's and its first processes: its master or daemon, and what serves.
struct Target {
    name: String,
    leader: i32,
    serving: i32,
    directory: PathBuf,
    port: u16,
}

impl Target {
    fn start(service: &Service<'_>, port: u16) -> Target {
        let serving = service.start();
        let directory = service.path("");
        Target {
            name: directory.file_name().unwrap().to_str().unwrap().to_owned(),
            leader: service.daemon().unwrap(),
            serving,
            directory,
            port,
        }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

/// What a newcomer runs, and whether it detaches.
struct Claim {
    what: String,
    command: Command,
    detaches: bool,
}

/// What a claim is, the variables of its environment, and its arguments.
type Words = (&'static str, Vec<(&'static str, String)>, Vec<String>);

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// Every kind of claim that a process can make about a service of another user.
fn claims(user: &OtherUser<'_>, target: &Target, first_port: u16) -> Vec<Claim> {
    let (leader, serving) = (target.leader.to_string(), target.serving.to_string());
    let (file, pidfile) = (target.file("haproxy.cfg"), target.file("haproxy.pid"));
    let directory = target.file("");
    let other_port = |number: u16| vec![("PORT", (first_port + 50 + number).to_string())];
    let same_port = || vec![("PORT", target.port.to_string())];
    let worker = format!("|type=w;fd=3;cfd=3;pid={serving};reloads=0;failedreload=0");
    let of_a_master = vec![
        ("HAPROXY_PROCESSES", format!("|type=m;fd=-1;pid={leader}{worker}")),
        ("HAPROXY_CFGFILES", file.clone()),
        ("HAPROXY_MWORKER", "1".to_owned()),
    ];
    let mut ports = first_port..;
    let mut own = |what: &str| {
        let port = ports.next().unwrap();
        user.configuration(&format!("{}-{what}.cfg", target.name), port)
    };
    let own_pidfile = user.path(&format!("{}.pid", target.name)).display().to_string();
    let told = own("told");
    let real: Vec<Words> = vec![
        ("-sf", vec![], words(["-db", "-f", &told, "-sf", &leader, &serving])),
        ("-st", vec![], words(["-db", "-f", &own("killed"), "-st", &leader, &serving])),
        ("a daemon's -sf", vec![], words(["-D", "-f", &own("daemon"), "-sf", &leader, &serving])),
        ("a master's -sf", vec![], words(["-W", "-f", &own("master"), "-sf", &leader, &serving])),
        ("its pidfile", vec![], words(["-db", "-f", &own("pidfile"), "-p", &pidfile])),
        (
            "its pidfile and -sf",
            vec![],
            words(["-db", "-f", &own("both"), "-p", &pidfile, "-sf", &leader]),
        ),
        (
            "a pidfile of the same name",
            vec![],
            words(["-D", "-f", &own("name"), "-p", &own_pidfile]),
        ),
        ("an environment", of_a_master.clone(), words(["-db", "-f", &own("environment")])),
        ("its file", other_port(0), words(["-D", "-f", &file])),
        ("its file, by a master", other_port(1), words(["-W", "-f", &file])),
        (
            "its file and directory",
            other_port(2),
            words(["-db", "-C", &directory, "-f", "haproxy.cfg"]),
        ),
        ("its file and -sf", other_port(3), words(["-db", "-f", &file, "-sf", &leader, &serving])),
    ];
    let socket = target.file("master.sock");
    let not_haproxy: Vec<Words> = vec![
        (
            "an impostor's -sf",
            same_port(),
            words(["-D", "-p", &pidfile, "-f", &file, "-sf", &leader, &serving]),
        ),
        (
            "an impostor's -x",
            same_port(),
            words(["-D", "-p", &pidfile, "-f", &file, "-x", &socket]),
        ),
        ("an impostor's likeness", same_port(), words(["-D", "-p", &pidfile, "-f", &file])),
        (
            "an impostor's likeness to a master",
            [same_port(), of_a_master].concat(),
            words(["-W", "-p", &pidfile, "-f", &file, "-S", &socket]),
        ),
    ];
    let claim = |(what, variables, words): (_, Vec<_>, Vec<String>),
                 program: &dyn Fn(&[_]) -> Command| {
        let mut command = program(&variables);
        command.args(&words);
        Claim { what: format!("{what} of {}", target.name), command, detaches: words[0] == "-D" }
    };
    let real = real.into_iter().map(|one| claim(one, &|variables| user.haproxy(variables)));
    let not_haproxy = not_haproxy
        .into_iter()
        .map(|one| Claim { detaches: false, ..claim(one, &|variables| user.impostor(variables)) });
    real.chain(not_haproxy).collect()
}

/// A `HAProxy` of the user's that was handed a listener which root had made.
fn with_an_inherited_listener(bed: &Bed, user: &OtherUser<'_>, port: u16) -> Command {
    let config = user.write("inherited.cfg", &format!("{GLOBAL}    bind fd@9\n"));
    let hand_on = format!(
        "import os, socket, sys\nmade = socket.socket()\nmade.bind(('127.0.0.1', {port}))\n\
         made.listen()\nos.dup2(made.fileno(), 9)\nos.execvp(sys.argv[1], sys.argv[1:])\n"
    );
    let haproxy = user.haproxy(&[]);
    // The words after nsenter's own arguments.
    let words = haproxy.get_args().skip_while(|word| *word != "--").skip(1);
    let mut command = bed.command("/usr/bin/python3");
    command.args(["-c", &hand_on]).args(words).args(["-db", "-f"]).arg(config);
    command
}

/// The pids that the exporter shows as `HAProxy`'s.
fn shown(exporter: &Exporter<'_>) -> BTreeSet<i64> {
    let state = exporter.get("/state.json").unwrap();
    let state: Value = serde_json::from_str(&state.body).unwrap();
    let haproxys = state["haproxys"].as_array().unwrap().iter();
    let processes = haproxys.flat_map(|one| one["processes"].as_array().unwrap());
    processes.filter_map(|process| process["pid"].as_i64()).collect()
}

fn another_users_claims_change_nothing(version: Version) {
    let cgroup = Cgroup::new();
    let bed = Bed::new();
    // Root's and the user's processes are in one cgroup, as after `sudo` in a session.
    let enter: Vec<String> =
        cgroup.entrances().map(|file| format!("echo $$ >{}; ", file.display())).collect();
    let enter = enter.concat();
    let services = roots_services(&bed, version, &enter);
    let targets: Vec<Target> =
        services.iter().zip(8001..).map(|(service, port)| Target::start(service, port)).collect();
    let entries =
        targets.iter().filter(|target| target.name.starts_with("configured")).map(|target| {
            let pidfile = target.file("haproxy.pid");
            format!("  - {{name: {}, match: {{pidfile: {pidfile}}}}}\n", target.name)
        });
    let entries = entries.collect::<Vec<_>>().concat();
    let exporter =
        Exporter::configured(&bed, &format!("defaults: {{stale_grace: 1s}}\nhaproxys:\n{entries}"));
    exporter.await_page("root's four services", |page| {
        page.haproxys().len() == 4 && page.sum("haproxy_host_up", &[]) == 4.0
    });
    let page = exporter.await_samples(SAMPLES);
    let (haproxys, before) = (page.haproxys(), lasting(&page, &page.haproxys()));
    let recorder = exporter.record();

    let user = OtherUser::new(&bed, version);
    let mut newcomers = Vec::new();
    for (target, first_port) in targets.iter().zip((20_000..).step_by(100)) {
        newcomers.extend(claims(&user, target, first_port));
    }
    newcomers.push(Claim {
        what: "an inherited listener".to_owned(),
        command: with_an_inherited_listener(&bed, &user, 20_900),
        detaches: false,
    });
    let mut running = Vec::new();
    for (number, Claim { what, command, detaches }) in newcomers.into_iter().enumerate() {
        // Every other one is in the cgroup of root's services.
        let command = if number % 2 == 0 { inside(&bed, &enter, &command) } else { command };
        running.push((what, detaches, bed.start(command, &format!("newcomer-{number}.log"))));
    }
    await_true("the user's pidfiles", || {
        targets.iter().all(|target| user.path(&format!("{}.pid", target.name)).exists())
    });
    for target in &targets {
        user.write(&format!("{}.pid", target.name), &format!("{}\n", target.leader));
    }
    exporter.await_page("the newcomers", |_| {
        let (shown, living) = (shown(&exporter), bed.pids_of("haproxy"));
        let roots = targets.len() + targets.iter().filter(|t| t.leader != t.serving).count();
        living.len() >= roots + running.len()
            && living.iter().all(|&pid| shown.contains(&i64::from(pid)))
    });
    for (what, detaches, newcomer) in &mut running {
        assert!(*detaches || !newcomer.has_ended(), "{what}: it has ended: {}", newcomer.log());
    }
    exporter.await_samples(SAMPLES);
    recorder.never("another picture of root's services", |page| {
        let now = lasting(page, &haproxys);
        report_difference(&before, &now);
        now != before
    });
    drop(recorder);
    root_can_still_act(&exporter, &bed, &services, &targets, &haproxys);
}

/// The same command in a cgroup.
fn inside(bed: &Bed, enter: &str, command: &Command) -> Command {
    let mut wrapped = bed.command("sh");
    let words = command.get_args().skip_while(|word| *word != "--").skip(1);
    wrapped.args(["-c", &format!("{enter}exec \"$@\""), "sh"]).args(words);
    wrapped
}

/// Reloads and outages of root's services are shown as ever.
fn root_can_still_act(
    exporter: &Exporter<'_>,
    bed: &Bed,
    services: &[Service<'_>],
    targets: &[Target],
    haproxys: &BTreeSet<String>,
) {
    for service in services {
        service.reload();
    }
    let of_root = |sample: &&Sample| haproxys.contains(sample.label("haproxy"));
    exporter.await_page("four reloads without an anomaly", |page| {
        let success = [("result", "success")];
        let mut reloads = page.all("haproxy_host_reloads_total", &success).filter(of_root);
        let mut up = page.all("haproxy_host_up", &[]).filter(of_root);
        let mut anomalies = page.all("haproxy_host_anomalies", &[]).filter(of_root);
        reloads.all(|reloads| reloads.value == 1.0)
            && up.all(|up| up.value == 1.0)
            && anomalies.all(|anomalies| anomalies.value == 0.0)
    });
    let page = exporter.await_samples(SAMPLES);
    let kinds: Vec<_> = page
        .all("haproxy_host_anomalies", &[])
        .filter(|sample| of_root(sample) && sample.value > 0.0)
        .collect();
    assert!(kinds.is_empty(), "{kinds:?}");
    for service in services {
        bed.kill("KILL", service.daemon().unwrap());
    }
    exporter.await_page("four outages", |page| {
        let down = page.all("haproxy_host_up", &[]).filter(of_root);
        down.filter(|up| up.value == 0.0).count() == targets.len()
    });
}
