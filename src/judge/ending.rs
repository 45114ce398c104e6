//! Finds what bears on ending a stale process: what it still holds that is needed, what proves that it
//! was superseded, and whether a reload is under way.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::case::{Case, PortSockets};
use super::loaded::loaded_by;
use super::reload_count;
use super::verdict::{Ending, PortKey, ProcessView, Reloads};
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::environment;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::{Member, Role};
use crate::haproxy::listeners::Listening;
use crate::haproxy::places::Endpoint;
use crate::model::{Connection, ProcessId, Signals, SocketInode};

/// The processes of a service, the stale ones with what bears on ending them. `ports` are its sockets.
#[must_use]
pub fn with_endings(case: &Case<'_>, ports: &[PortSockets<'_>]) -> Vec<ProcessView> {
    let mut views = case.processes();
    for view in &mut views {
        let member = case.member(view.id).filter(|member| member.lives());
        if let Some(member) = member.filter(|_| view.generation == Generation::Stale) {
            view.ending = Some(ending(case, ports, member, view));
        }
    }
    views
}

fn ending(
    case: &Case<'_>,
    ports: &[PortSockets<'_>],
    member: &Member<'_>,
    view: &ProcessView,
) -> Ending {
    let loaded = loaded_by(member);
    let hard_stop = loaded.and_then(|found| found.declared.globals.hard_stop_after);
    let by = view.superseded.and_then(|how| case.member(how.by));
    let has_common_ground = match by.filter(|by| by.lives()) {
        Some(by) => shares_ground(case, member, by),
        None => {
            case.living(Generation::Current).any(|serving| shares_ground(case, member, serving))
        }
    };
    Ending {
        hidden_sockets: hidden_sockets(case, member.id()),
        needed: needed(case, ports, member.id()),
        has_common_ground,
        own_grace_seconds: case.own_grace_seconds(member).unwrap_or_default(),
        hard_stop_after_seconds: hard_stop.map(|after| after.as_secs_f64()),
        max_reloads: loaded.and_then(|found| found.declared.globals.max_reloads),
    }
}

fn hidden_sockets(case: &Case<'_>, id: ProcessId) -> BTreeSet<SocketInode> {
    let connections = case.details.connections.get(&id).into_iter().flatten();
    let hidden = connections.filter(|connection| matches!(connection, Connection::Hidden { .. }));
    hidden.map(Connection::inode).collect()
}

/// The listeners of a process that no serving process has, although the serving ones loaded a configuration
/// that declares them.
fn needed(case: &Case<'_>, ports: &[PortSockets<'_>], id: ProcessId) -> Vec<PortKey> {
    let on_disk = || {
        let configuration = case.configuration.as_deref()?;
        (case.config_has_changed() == Some(false)).then_some(configuration)
    };
    let Some(loaded) = case.loaded_configuration().or_else(on_disk) else { return Vec::new() };
    let serving = ports.iter().filter(|port| port.generation == Generation::Current);
    let serving: BTreeSet<&PortKey> = serving.map(|port| &port.key).collect();
    let own = ports.iter().filter(|port| port.holder == id && !serving.contains(&port.key));
    let declared =
        own.filter(|port| case.places.declares(&loaded.ports, &port.endpoint()) == Some(true));
    declared.map(|port| port.key.clone()).collect()
}

/// Whether two processes have a configuration path, a pidfile or an address in common.
fn shares_ground(case: &Case<'_>, one: &Member<'_>, two: &Member<'_>) -> bool {
    let pidfile =
        |member: &Member<'_>| member.process.pidfile.as_ref().map(|file| file.path.clone());
    let same_view = one.process.mount_namespace == two.process.mount_namespace;
    let same_pidfile = pidfile(one).is_some() && pidfile(one) == pidfile(two);
    let same_files = || !configurations(one).is_disjoint(&configurations(two));
    (same_view && (same_files() || same_pidfile))
        || !addresses(case, one).is_disjoint(&addresses(case, two))
        || !listeners(case, one).is_disjoint(&listeners(case, two))
}

/// The configuration files that the arguments of a process name, as it sees them.
fn configurations(member: &Member<'_>) -> BTreeSet<PathBuf> {
    let Some(line) = member.line.as_ref() else { return BTreeSet::new() };
    let directory = line.launch_directory(member.process);
    let resolve = |path: &String| CommandLine::resolve(directory.as_deref(), path);
    line.files.iter().filter_map(resolve).collect()
}

/// The ports on which a process listens.
fn addresses(case: &Case<'_>, member: &Member<'_>) -> BTreeSet<Endpoint> {
    case.listeners_of(member.id()).map(Listening::endpoint).collect()
}

/// The listeners that a process holds, or held when it last had any.
fn listeners(case: &Case<'_>, member: &Member<'_>) -> BTreeSet<SocketInode> {
    let now = case.listeners_of(member.id()).map(|held| held.socket.inode);
    let before = case.pasts.get(&member.id()).into_iter();
    now.chain(before.flat_map(|past| past.listeners.iter().copied())).collect()
}

/// The sign that a reload of the service is under way. Its processes then change from one moment to the
/// next.
#[must_use]
pub fn reload_under_way(case: &Case<'_>, reloads: &Reloads) -> Option<&'static str> {
    let living = || case.service.members.iter().filter(|member| member.lives());
    if living().any(|member| member.launching) {
        return Some("a new HAProxy has not detached from its launcher yet");
    }
    if case.living(Generation::Starting).next().is_some() {
        return Some("a new process is starting");
    }
    for master in living().filter(|member| member.role == Role::Master) {
        let environment = master.process.environment.as_ref();
        if environment.is_some_and(environment::master_is_loading) {
            return Some("the master is reading its configuration");
        }
        if master.process.signals.is_some_and(|s| s.pending & Signals::SIGUSR2 != 0) {
            return Some("the master has yet to handle SIGUSR2, which asks it to reload");
        }
    }
    let numbers = reload_count::numbers(case)?;
    // Once the failure is counted, its time says how long ago it was.
    let has_failed = reloads.last_successful == Some(false);
    let is_open = numbers.starting || (numbers.tried > numbers.landed && !has_failed);
    is_open.then_some("the master's last reload has not landed yet")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::judge::verdict::Ending;
    use crate::model::ConnectionState::Established;
    use crate::model::{Connection, Signals};
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    fn ending_of(pid: i32, actors: &[Actor]) -> Ending {
        let verdict = Film::default().settle(1000.0, actors);
        let mut processes = verdict.services.iter().flat_map(|service| &service.processes);
        processes.find(|process| process.id.pid == pid).and_then(|p| p.ending.clone()).unwrap()
    }

    fn old() -> Actor {
        actor(10, 100, LINE)
    }

    fn new(line: &str) -> Actor {
        actor(11, 200, line).tcp(80, 1)
    }

    #[test]
    fn a_listener_that_the_serving_process_should_have_is_needed() {
        let text = "frontend a\n bind :80\n bind :81\n";
        let told = format!("{LINE} -sf 10");
        let table = [
            ("declared by what it loaded", old().tcp(81, 2), new(&told).configured(text, 150), 1),
            ("declared only since", old().tcp(81, 2), new(&told).configured(text, 250), 0),
            ("not declared", old().tcp(82, 2), new(&told).configured(text, 150), 0),
            ("it has it too", old().tcp(80, 1), new(&told).configured(text, 150), 0),
            ("unknown", old().tcp(81, 2), new(&told), 0),
        ];
        for (what, old, new, expected) in table {
            assert_eq!(ending_of(10, &[old, new]).needed.len(), expected, "{what}");
        }
    }

    #[test]
    fn a_replacement_has_something_in_common_with_the_process_it_replaces() {
        let other = "haproxy -D -f /b.cfg -p /run/q -sf 10";
        let drains = || old().connected(9, Established);
        let table = [
            ("its configuration", drains(), "haproxy -D -f /a.cfg -sf 10", true),
            ("an address", old().tcp(80, 1), other, true),
            ("nothing", drains(), other, false),
        ];
        for (what, old, line, expected) in table {
            assert_eq!(ending_of(10, &[old, new(line)]).has_common_ground, expected, "{what}");
        }
        let pidfile = |actor: Actor| actor.pidfile(&[11]);
        let actors = [pidfile(drains()), pidfile(new("haproxy -D -f /b.cfg -p /run/p -sf 10"))];
        assert!(ending_of(10, &actors).has_common_ground, "its pidfile");
    }

    #[test]
    fn a_socket_in_no_table_is_hidden() {
        let told = format!("{LINE} -sf 10");
        let hidden = old().connected(9, Established).connection(Connection::Hidden { inode: 8 });
        assert_eq!(ending_of(10, &[hidden, new(&told)]).hidden_sockets, BTreeSet::from([8]));
        let seen = old().connected(9, Established);
        assert!(ending_of(10, &[seen, new(&told)]).hidden_sockets.is_empty());
    }

    #[test]
    fn what_it_has_loaded_says_how_it_ends_by_itself() {
        let text = "global\n grace 5s\n hard-stop-after 1h\n mworker-max-reloads 3\n";
        let told = format!("{LINE} -sf 10");
        for (modified, seconds) in [(50, Some(3600.0)), (150, None)] {
            let old = old().connected(9, Established).configured(text, modified);
            let ending = ending_of(10, &[old, new(&told)]);
            assert_eq!(ending.hard_stop_after_seconds, seconds, "{modified}");
            assert_eq!(ending.max_reloads, seconds.map(|_| 3), "{modified}");
        }
    }

    #[test]
    fn a_reload_under_way_shows_in_each_of_its_signs() {
        let master = |number| actor(20, 100, "haproxy -W -f /a.cfg").reload(number);
        let worker = || actor(21, 101, "haproxy -W -f /a.cfg").child_of(20).reload(0).tcp(80, 1);
        let pending = |actor: Actor| {
            actor.change(|process| {
                process.signals = Some(Signals { pending: Signals::SIGUSR2, ..Signals::default() });
            })
        };
        let starting = actor(22, 999, "haproxy -W -f /a.cfg").child_of(20).reload(1);
        let loading = master(1)
            .change(|process| process.environment = None)
            .variable("HAPROXY_PROCESSES", "|type=m;fd=-1;pid=20;reloads=1|type=w;pid=21")
            .variable("HAPROXY_MWORKER_REEXEC", "1")
            .variable("HAPROXY_STARTUP_VERSION", "2.8.0");
        let daemon = || actor(10, 100, LINE).tcp(80, 1);
        let launcher = actor(11, 1001, &format!("{LINE} -sf 10")).change(|p| p.session = 5);
        let table: [(&str, Vec<Actor>, Option<&str>); 6] = [
            ("none", vec![master(0), worker()], None),
            ("a starting worker", vec![master(1), worker(), starting], Some("starting")),
            ("a master that parses", vec![loading, worker()], Some("reading")),
            ("SIGUSR2 is pending", vec![pending(master(0)), worker()], Some("SIGUSR2")),
            ("no worker yet", vec![master(1), worker()], Some("landed")),
            ("a launcher", vec![daemon(), launcher], Some("detached")),
        ];
        for (what, actors, expected) in table {
            let verdict = Film::default().see(1002.0, &actors);
            let service = verdict.services.iter().find(|s| s.up == Some(true)).unwrap();
            let sign = service.reloading;
            assert!(
                sign.is_some() == expected.is_some()
                    && sign.is_none_or(|sign| sign.contains(expected.unwrap_or_default())),
                "{what}: {sign:?}"
            );
        }
    }
}
