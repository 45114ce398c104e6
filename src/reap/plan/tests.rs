mod looks;

use super::*;
use crate::haproxy::lineage::member::Role;
use crate::haproxy::lineage::proof::Proof;
use crate::judge::verdict::Ending;
use crate::model::{Protocol, Signals, Traffic};
use crate::policy::reap::QuietTime;
use crate::policy::{Configured, Match, Rules};
use crate::reap::sight::Serving;

/// A stale process that no guard protects.
pub fn stale(state: StaleState) -> Stale {
    Stale {
        role: Role::Daemon,
        state,
        superseded: Some(Superseded {
            by: ProcessId { start_ticks: 2000, pid: 20 },
            proof: Proof::Told,
            since: 20.0,
        }),
        superseded_seconds: Some(1000.0),
        is_init: false,
        executable: Some("/usr/sbin/haproxy".into()),
        unread: None,
        run_state: 'S',
        signals: Signals { pending: 0, blocked: 0, caught: Signals::SIGUSR1 },
        tracer: 0,
        ending: Ending { has_common_ground: true, ..Ending::default() },
        ports: BTreeSet::new(),
        connections: Some(ConnectionCounts::default()),
        traffic: Some(Traffic {
            connections: 0,
            peers: 0,
            moved_bytes: Some(0),
            only_half_closed: false,
        }),
    }
}

const OLD: ProcessId = ProcessId { start_ticks: 1000, pid: 10 };

fn port(number: u16) -> PortKey {
    let text = |text: &str| text.into();
    PortKey {
        protocol: Protocol::Tcp,
        address: "0.0.0.0".parse().unwrap(),
        port: number,
        interface: text(""),
        netns: text(""),
    }
}

/// A service that serves, with one stale process that still listens.
fn service() -> ServiceSight {
    ServiceSight {
        up: Some(true),
        is_complete: true,
        serving: vec![Serving {
            id: ProcessId { start_ticks: 2000, pid: 20 },
            run_state: 'S',
            executable: Some("/usr/sbin/haproxy".into()),
        }],
        stale: BTreeMap::from([(OLD, stale(StaleState::Listening))]),
        others: BTreeMap::from([(20, crate::haproxy::lineage::generations::Generation::Current)]),
        ..ServiceSight::default()
    }
}

fn sight(service: &ServiceSight) -> Sight {
    Sight {
        taken: 10_000.0,
        booted: 5000.0,
        blurred: None,
        services: BTreeMap::from([("lb".to_owned(), service.clone())]),
    }
}

fn policy(reap: ReapPolicy) -> Policy {
    Policy { defaults: Rules { reap: Some(reap), ..Rules::default() }, ..Policy::default() }
}

fn planned(looks: (&Sight, &Sight), policy: &Policy, request: &Request) -> Plan {
    let history = History::default().after(looks.1);
    let none = BTreeMap::new();
    let local = MinuteOfWeek::at(2, 12, 0);
    let terms = Terms { request, policy, local, sent_in_run: &none };
    plan(looks.0, looks.1, &history, &terms)
}

/// The signal that is planned for the one process, or why it is held back.
fn outcome(plan: &Plan) -> &'static str {
    let [service] = plan.services.as_slice() else { return "not looked at" };
    match (service.steps.as_slice(), service.held.as_slice()) {
        ([step], []) => step.signal.as_str(),
        ([], [held]) => held.hold.code(),
        ([], []) => "nothing is due",
        _ => panic!("{plan:?}"),
    }
}

/// The outcome where both looks show this service.
fn steadily(service: &ServiceSight) -> &'static str {
    let sight = sight(service);
    outcome(&planned((&sight, &sight), &policy(ReapPolicy::default()), &Request::default()))
}

#[test]
fn a_stale_process_that_still_listens_gets_sigusr1() {
    assert_eq!(steadily(&service()), "USR1");
}

#[test]
fn each_guard_of_a_service_protects_all_its_processes() {
    type Change = fn(&mut ServiceSight);
    let table: [(&str, Change, &str); 12] = [
        ("it is down", |s| s.up = Some(false), "not_up"),
        ("it may be down", |s| s.up = None, "not_up"),
        ("a reload is under way", |s| s.reloading = Some("x"), "reloading"),
        ("a reload failed just now", |s| s.reload_failed = Some(9971.0), "reload_failed"),
        ("a reload failed before", |s| s.reload_failed = Some(9970.0), "USR1"),
        ("the clock was set back", |s| s.reload_failed = Some(20_000.0), "reload_failed"),
        ("a listener may be missing", |s| s.is_complete = false, "incomplete"),
        ("the serving process is stopped", |s| s.serving[0].run_state = 'T', "serving_halted"),
        ("a debugger holds it", |s| s.serving[0].run_state = 't', "serving_halted"),
        ("it is stuck in the kernel", |s| s.serving[0].run_state = 'D', "serving_halted"),
        ("it accepts no clients", |s| s.waiting = BTreeSet::from([port(80)]), "unserved"),
        ("it is not known which process serves", |s| s.serving.clear(), "other_program"),
    ];
    for (what, change, expected) in table {
        let mut service = service();
        change(&mut service);
        assert_eq!(steadily(&service), expected, "{what}");
    }
}

#[test]
fn each_guard_of_a_process_protects_it() {
    type Change = fn(&mut Stale);
    let table: [(&str, Change, &str); 13] = [
        ("a master", |p| p.role = Role::Master, "master"),
        ("the init of a container", |p| p.is_init = true, "init"),
        ("unread", |p| p.unread = Some("its users"), "unread"),
        ("a hidden socket", |p| p.ending.hidden_sockets = BTreeSet::from([7]), "hidden_socket"),
        ("another program", |p| p.executable = Some("/opt/haproxy".into()), "other_program"),
        ("an unknown program", |p| p.executable = None, "other_program"),
        ("traced", |p| p.tracer = 7, "traced"),
        ("needed", |p| p.ending.needed = vec![port(81)], "needed"),
        ("no handler of SIGUSR1", |p| p.signals.caught = 0, "no_handler"),
        ("no proof", |p| p.superseded = None, "no_proof"),
        ("told by a stranger", |p| p.ending.has_common_ground = false, "stranger"),
        ("inferred", |p| infer(p, Proof::Place), "inferred"),
        ("what it does is unknown", |p| p.state = StaleState::Unknown, "unknown_state"),
    ];
    for (what, change, expected) in table {
        let mut service = service();
        service.stale.values_mut().for_each(change);
        assert_eq!(steadily(&service), expected, "{what}");
    }
}

fn infer(process: &mut Stale, proof: Proof) {
    process.superseded = process.superseded.map(|how| Superseded { proof, ..how });
}

/// Once HAProxy's own handler is gone, the soft stop would be a kill; a SIGTERM is meant to be one.
#[test]
fn only_the_soft_stop_needs_a_handler() {
    let mut service = service();
    service.stale = BTreeMap::from([(OLD, stale(StaleState::Idle))]);
    service.stale.values_mut().for_each(|process| process.signals.caught = 0);
    let look = sight(&service);
    let sent =
        |signal| History::default().with_signal("lb", OLD, signal, 4000.0).with_signal_taken(OLD);
    let mut history = sent(StopSignal::Usr1);
    history.processes.get_mut(&OLD).unwrap().without_listener = Some(1000.0);
    let (none, request) = (BTreeMap::new(), Request::default());
    let policy = policy(ReapPolicy { max_share: 1.0, ..ReapPolicy::default() });
    let local = MinuteOfWeek::at(0, 0, 0);
    let terms = Terms { request: &request, policy: &policy, local, sent_in_run: &none };
    assert_eq!(outcome(&plan(&look, &look, &history, &terms)), "TERM");
    history.processes.get_mut(&OLD).unwrap().last_signal = None;
    assert_eq!(outcome(&plan(&look, &look, &history, &terms)), "no_handler");
}

#[test]
fn a_weak_proof_suffices_where_the_serving_process_came_by_a_reload() {
    let named = Request { pid: Some(10), ..Request::default() };
    for proof in [Proof::Pidfile, Proof::Place] {
        let mut service = service();
        service.stale.values_mut().for_each(|process| infer(process, proof));
        assert_eq!(steadily(&service), "inferred");
        let look = sight(&service);
        let plan = planned((&look, &look), &Policy::default(), &named);
        assert_eq!(outcome(&plan), "USR1", "a person has named it");
        service.came_by_reload = true;
        assert_eq!(steadily(&service), "USR1");
    }
}

/// `--pid` lifts the condition on proof, and no other.
#[test]
fn a_person_who_names_a_process_lifts_no_other_guard() {
    let named = Request { pid: Some(10), ..Request::default() };
    let outcome_of = |service: &ServiceSight| {
        let look = sight(service);
        outcome(&planned((&look, &look), &Policy::default(), &named))
    };
    let mut stranger = service();
    stranger.stale.values_mut().for_each(|process| process.ending.has_common_ground = false);
    assert_eq!(outcome_of(&stranger), "USR1");
    let mut down = stranger.clone();
    down.up = Some(false);
    assert_eq!(outcome_of(&down), "not_up");
    let mut master = stranger.clone();
    master.stale.values_mut().for_each(|process| process.role = Role::Master);
    assert_eq!(outcome_of(&master), "master");
    let mut needed = stranger;
    needed.stale.values_mut().for_each(|process| process.ending.needed = vec![port(81)]);
    assert_eq!(outcome_of(&needed), "needed");
}

#[test]
fn only_what_was_asked_for_is_looked_at() {
    let look = sight(&service());
    let none = Policy::default();
    let own = Policy {
        haproxys: vec![Configured {
            name: "lb".to_owned(),
            matching: Match::default(),
            rules: Rules { reap: Some(ReapPolicy::default()), ..Rules::default() },
        }],
        ..Policy::default()
    };
    let request = |service: Option<&str>, pid| Request { service: service.map(str::to_owned), pid };
    let table = [
        ("no section", &none, request(None, None), "not looked at"),
        ("a section of its own", &own, request(None, None), "USR1"),
        ("no section, and named", &none, request(Some("lb"), None), "USR1"),
        ("another is named", &own, request(Some("x"), None), "not looked at"),
        ("its process is named", &none, request(None, Some(10)), "USR1"),
        ("another process is named", &own, request(None, Some(11)), "not looked at"),
        ("the serving process is named", &none, request(None, Some(20)), "nothing is due"),
        ("both, and they do not match", &none, request(Some("x"), Some(10)), "not looked at"),
    ];
    for (what, policy, request, expected) in table {
        assert_eq!(outcome(&planned((&look, &look), policy, &request)), expected, "{what}");
    }
}

#[test]
fn nothing_is_signalled_in_a_quiet_time() {
    let look = sight(&service());
    let quiet = |days: &[u16]| {
        let written = "noon".to_owned();
        let quiet = QuietTime { days: days.to_vec(), from: 700, to: 740, written };
        policy(ReapPolicy { quiet: vec![quiet], ..ReapPolicy::default() })
    };
    let request = Request::default();
    assert_eq!(outcome(&planned((&look, &look), &quiet(&[2]), &request)), "quiet");
    assert_eq!(outcome(&planned((&look, &look), &quiet(&[3]), &request)), "USR1");
}

/// Fifty that piled up: the caps hold, and what still takes clients comes first.
#[test]
fn a_pile_is_ended_piece_by_piece() {
    let mut service = service();
    for pid in 100..150 {
        let state = if pid % 2 == 0 { StaleState::Draining } else { StaleState::Listening };
        service.stale.insert(ProcessId { start_ticks: 1500, pid }, stale(state));
    }
    let look = sight(&service);
    let policy = policy(ReapPolicy::default());
    let plan = planned((&look, &look), &policy, &Request::default());
    let [service] = plan.services.as_slice() else { panic!("{plan:?}") };
    assert_eq!((service.steps.len(), service.held.len(), service.waiting.len()), (10, 16, 25));
    assert!(service.steps.iter().all(|step| step.state == StaleState::Listening));
    assert!(service.held.iter().all(|held| held.hold.code() == "max_per_run"));
    assert_eq!(service.steps[0].id, OLD, "the oldest first");
}

#[test]
fn the_answer_says_how_haproxy_ends_it_by_itself() {
    let mut service = service();
    service.stale.values_mut().for_each(|process| {
        process.ending.hard_stop_after_seconds = Some(3600.0);
        process.ending.max_reloads = Some(50);
    });
    let look = sight(&service);
    let plan = planned((&look, &look), &policy(ReapPolicy::default()), &Request::default());
    let ends = plan.services[0].steps[0].ends_itself.clone().unwrap();
    assert!(ends.contains("hard-stop-after 1h 0m after a SIGUSR1"), "{ends}");
    assert!(ends.contains("50 reloads"), "{ends}");
}
