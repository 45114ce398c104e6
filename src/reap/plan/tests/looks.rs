//! What two looks in a row show, and what one of them shows alone.

use super::*;

#[test]
fn what_two_looks_do_not_agree_on_is_not_done() {
    let policy = policy(ReapPolicy::default());
    let request = Request::default();
    let now = sight(&service());
    let outcome_after = |before: &Sight| outcome(&planned((before, &now), &policy, &request));
    let changed = |change: fn(&mut ServiceSight)| {
        let mut service = service();
        change(&mut service);
        sight(&service)
    };
    let table = [
        ("there was no service", Sight { booted: 4999.0, ..Sight::default() }, "unconfirmed"),
        ("it was down", changed(|s| s.up = Some(false)), "unconfirmed"),
        ("a reload was under way", changed(|s| s.reloading = Some("x")), "reloading"),
        ("the process was not stale", changed(|s| s.stale.clear()), "unconfirmed"),
        (
            "it drained",
            changed(|s| s.stale.values_mut().for_each(|p| p.state = StaleState::Draining)),
            "unconfirmed",
        ),
        (
            "by another proof",
            changed(|s| s.stale.values_mut().for_each(|p| infer(p, Proof::Pidfile))),
            "unconfirmed",
        ),
        ("blurred", Sight { blurred: Some("x".to_owned()), ..now.clone() }, "blurred"),
        ("not all listeners were known", changed(|s| s.is_complete = false), "incomplete"),
    ];
    for (what, before, expected) in table {
        assert_eq!(outcome_after(&before), expected, "{what}");
    }
    let blurred = Sight { blurred: Some("x".to_owned()), ..now.clone() };
    assert_eq!(outcome(&planned((&now, &blurred), &policy, &request)), "blurred");
    // What is true of both looks counts; what is true of one only is the ordinary course of things.
    let stuck = |state| {
        let mut service = service();
        service.serving[0].run_state = state;
        sight(&service)
    };
    let plan = planned((&now, &stuck('D')), &policy, &request);
    assert_eq!(outcome(&plan), "USR1", "a short wait in the kernel");
    let mut waiting = service();
    waiting.waiting.insert(port(80));
    let plan = planned((&now, &sight(&waiting)), &policy, &request);
    assert_eq!(outcome(&plan), "USR1", "a client that has just arrived");
}

/// A busy process accepts and closes connections while the tables are read.
#[test]
fn a_socket_that_one_look_misses_does_not_protect_from_the_soft_stop() {
    let hidden = |inode, state| {
        let mut process = stale(state);
        process.ending.hidden_sockets = BTreeSet::from([inode]);
        let mut service = service();
        service.stale = BTreeMap::from([(OLD, process)]);
        sight(&service)
    };
    let policy = policy(ReapPolicy::default());
    let between = |before: &Sight, now: &Sight| {
        outcome(&planned((before, now), &policy, &Request::default()))
    };
    let (one, two) = (hidden(7, StaleState::Listening), hidden(8, StaleState::Listening));
    assert_eq!(between(&one, &two), "USR1");
    assert_eq!(between(&one, &one), "hidden_socket");
    // A stronger signal would cut it.
    let draining = |inode| hidden(inode, StaleState::Draining);
    let stronger = ReapPolicy {
        draining_seconds: Some(0.0),
        step_grace_seconds: 0.0,
        max_share: 1.0,
        ..ReapPolicy::default()
    };
    let policy = Policy {
        defaults: Rules { reap: Some(stronger), ..Rules::default() },
        ..Policy::default()
    };
    let (none, request) = (BTreeMap::new(), Request::default());
    let local = MinuteOfWeek::at(0, 0, 0);
    let terms = Terms { request: &request, policy: &policy, local, sent_in_run: &none };
    let history = History::default().after(&draining(8));
    let told = history.with_signal("lb", OLD, StopSignal::Usr1, 4000.0).with_signal_taken(OLD);
    let (before, now) = (draining(7), draining(8));
    assert_eq!(outcome(&plan(&before, &now, &history, &terms)), "USR1");
    assert_eq!(outcome(&plan(&before, &now, &told, &terms)), "hidden_socket");
}

/// The wall clock is set by a day, forth and back: every patience is measured by another clock.
#[test]
fn a_clock_that_jumps_shortens_no_patience() {
    let mut service = service();
    service.stale = BTreeMap::from([(OLD, stale(StaleState::Idle))]);
    let policy = policy(ReapPolicy { idle_seconds: 600.0, ..ReapPolicy::default() });
    let (none, request) = (BTreeMap::new(), Request::default());
    let local = MinuteOfWeek::at(0, 0, 0);
    let terms = Terms { request: &request, policy: &policy, local, sent_in_run: &none };
    let look = |booted, taken| Sight { taken, booted, ..sight(&service) };
    let mut history = History::default();
    let mut before = look(5000.0, 10_000.0);
    history = history.after(&before);
    for (booted, taken, expected) in [
        (5300.0, 10_300.0, "nothing is due"),
        (5301.0, 96_701.0, "nothing is due"),
        (5302.0, -70_000.0, "nothing is due"),
        (5599.0, 96_999.0, "nothing is due"),
        (5600.0, 10_600.0, "USR1"),
    ] {
        let now = look(booted, taken);
        history = history.after(&now);
        assert_eq!(outcome(&plan(&before, &now, &history, &terms)), expected, "{booted}");
        before = now;
    }
}
