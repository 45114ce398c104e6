//! What the policy asks for of one stale process, by what keeps it alive.

use super::guards::Hold;
use super::history::ProcessHistory;
use super::sight::{BootSeconds, Stale};
use crate::judge::verdict::StaleState;
use crate::model::Signals;
use crate::model::time::age;
use crate::policy::reap::{ReapPolicy, StopSignal};

/// What the policy asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Due {
    /// This signal, for this reason.
    Signal(StopSignal, String),
    /// Nothing yet, or nothing at all, for this reason.
    Waiting(String),
    /// Something, but nothing that the policy permits would achieve it.
    Stuck(Hold),
}

/// Decides what is due.
#[must_use]
pub fn due(process: &Stale, past: &ProcessHistory, policy: &ReapPolicy, now: BootSeconds) -> Due {
    match process.state {
        StaleState::Listening => listening(process, past, policy, now),
        StaleState::Idle => {
            let since = past.without_listener.unwrap_or(now);
            let what = "has neither a listener nor a connection";
            match patience(what, now - since, Some(policy.idle_seconds), "idle") {
                Patience::Lasts(why) => Due::Waiting(why),
                Patience::IsOver(why) => next_signal(why, past, policy, now),
            }
        }
        StaleState::Draining => draining(process, past, policy, now),
        StaleState::Unknown => Due::Stuck(Hold::UnknownState),
        StaleState::Zombie => Due::Waiting("it is dead; only its parent can remove it".to_owned()),
    }
}

fn listening(process: &Stale, past: &ProcessHistory, policy: &ReapPolicy, now: BootSeconds) -> Due {
    let Some(superseded) = process.superseded_seconds else { return Due::Stuck(Hold::NoProof) };
    if process.signals.pending & Signals::SIGUSR1 != 0 {
        return Due::Waiting("SIGUSR1 was sent to it and it has yet to handle it".to_owned());
    }
    if let Some(last) = past.last_signal {
        if let Some(waiting) = after_signal(last.at, policy, now) {
            return waiting;
        }
        if last.confirmed {
            return Due::Stuck(Hold::IgnoresSoftStop);
        }
    }
    let allowed = policy.listening_seconds + process.ending.own_grace_seconds;
    let what = "was superseded and still accepts clients";
    match patience(what, superseded, Some(allowed), "listening") {
        Patience::Lasts(why) => Due::Waiting(why),
        Patience::IsOver(why) => Due::Signal(StopSignal::Usr1, why),
    }
}

/// The connections of a draining process are cut only where the policy says so.
fn draining(process: &Stale, past: &ProcessHistory, policy: &ReapPolicy, now: BootSeconds) -> Due {
    let since = past.without_listener.unwrap_or(now);
    let what = "has let go of its listeners and still has connections";
    let drains = patience(what, now - since, policy.draining_seconds, "draining");
    match (drains, half_closed(process, past, policy, now)) {
        (Patience::IsOver(why), _) | (_, Some(Patience::IsOver(why))) => {
            next_signal(why, past, policy, now)
        }
        (Patience::Lasts(why), _) => Due::Waiting(why),
    }
}

/// The patience with a process that has only half-closed connections; `None` if it has others, or it is not
/// known whether bytes move on them.
fn half_closed(
    process: &Stale,
    past: &ProcessHistory,
    policy: &ReapPolicy,
    now: BootSeconds,
) -> Option<Patience> {
    process.traffic.filter(|traffic| traffic.only_half_closed)?;
    let (still, _) = past.still?;
    let since = past.without_listener?.max(still);
    let what = "has only half-closed connections on which no byte moves";
    Some(patience(what, now - since, policy.half_closed_seconds, "half_closed"))
}

/// Whether the time that the policy gives a process is over, with the reason in words.
enum Patience {
    Lasts(String),
    IsOver(String),
}

/// Compares the time that has passed with the time allowed by `key` of the policy.
fn patience(what: &str, passed: f64, allowed: Option<f64>, key: &str) -> Patience {
    let Some(allowed) = allowed else {
        return Patience::Lasts(format!("it {what}; {key}: never"));
    };
    let (passed_text, allowed_text) = (age(passed), age(allowed));
    if passed < allowed {
        Patience::Lasts(format!("it {what}, seen so for {passed_text}; {key}: {allowed_text}"))
    } else {
        Patience::IsOver(format!("it {what}, for {passed_text}; {key}: {allowed_text}"))
    }
}

/// The signal that comes next: the mildest first, and each after the patience for the one before.
fn next_signal(why: String, past: &ProcessHistory, policy: &ReapPolicy, now: BootSeconds) -> Due {
    let Some(last) = past.last_signal else { return Due::Signal(StopSignal::Usr1, why) };
    if let Some(waiting) = after_signal(last.at, policy, now) {
        return waiting;
    }
    let (last, confirmed) = (last.signal, last.confirmed);
    if !confirmed {
        let why = format!("{why}; it is not known whether SIG{} was sent", last.as_str());
        return Due::Signal(last.min(policy.last_signal), why);
    }
    match last.next().filter(|next| *next <= policy.last_signal) {
        Some(next) => Due::Signal(next, format!("{why}; SIG{} had no effect", last.as_str())),
        None => Due::Stuck(Hold::LastSignal(last)),
    }
}

/// Waiting while the last signal may still have its effect.
fn after_signal(at: BootSeconds, policy: &ReapPolicy, now: BootSeconds) -> Option<Due> {
    let passed = now - at;
    (passed < policy.step_grace_seconds).then(|| {
        let (passed, grace) = (age(passed), age(policy.step_grace_seconds));
        Due::Waiting(format!("it was signalled {passed} ago; step_grace: {grace}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Traffic;
    use crate::reap::history::LastSignal;
    use crate::reap::plan::tests::stale;

    const NOW: f64 = 100_000.0;

    fn taken(signal: StopSignal, at: f64) -> LastSignal {
        LastSignal { signal, at, confirmed: true }
    }

    fn signal(due: &Due) -> Option<&'static str> {
        match due {
            Due::Signal(signal, _) => Some(signal.as_str()),
            Due::Waiting(_) => None,
            Due::Stuck(hold) => Some(hold.code()),
        }
    }

    #[test]
    fn what_still_listens_is_asked_once() {
        let table = [
            ("not yet", 29.0, 0.0, None, None),
            ("due", 30.0, 0.0, None, Some("USR1")),
            ("HAProxy's own grace is added", 30.0, 5.0, None, None),
            ("and over", 35.0, 5.0, None, Some("USR1")),
            ("a moment after", 60.0, 0.0, Some(10.0), None),
            ("in vain", 90.0, 0.0, Some(30.0), Some("ignores_soft_stop")),
        ];
        for (what, superseded, grace, sent, expected) in table {
            let mut process = stale(StaleState::Listening);
            process.superseded_seconds = Some(superseded);
            process.ending.own_grace_seconds = grace;
            let last_signal = sent.map(|ago| taken(StopSignal::Usr1, NOW - ago));
            let past = ProcessHistory { last_signal, ..ProcessHistory::default() };
            let due = due(&process, &past, &ReapPolicy::default(), NOW);
            assert_eq!(signal(&due), expected, "{what}: {due:?}");
        }
        let mut process = stale(StaleState::Listening);
        process.signals.pending = Signals::SIGUSR1;
        let past = ProcessHistory::default();
        assert_eq!(signal(&due(&process, &past, &ReapPolicy::default(), NOW)), None, "pending");
    }

    #[test]
    fn what_is_idle_gets_one_signal_after_the_other() {
        let table = [
            ("just seen", 0.0, None, StopSignal::Kill, None),
            ("for less than its time", 59.0, None, StopSignal::Kill, None),
            ("due", 60.0, None, StopSignal::Kill, Some("USR1")),
            ("a moment after", 90.0, Some((StopSignal::Usr1, 29.0)), StopSignal::Kill, None),
            ("next", 90.0, Some((StopSignal::Usr1, 30.0)), StopSignal::Kill, Some("TERM")),
            ("last", 120.0, Some((StopSignal::Term, 30.0)), StopSignal::Kill, Some("KILL")),
            (
                "in vain",
                150.0,
                Some((StopSignal::Kill, 30.0)),
                StopSignal::Kill,
                Some("last_signal"),
            ),
            (
                "not permitted",
                120.0,
                Some((StopSignal::Term, 30.0)),
                StopSignal::Term,
                Some("last_signal"),
            ),
            (
                "only asked",
                90.0,
                Some((StopSignal::Usr1, 30.0)),
                StopSignal::Usr1,
                Some("last_signal"),
            ),
        ];
        for (what, since, sent, last_signal, expected) in table {
            let past = ProcessHistory {
                without_listener: Some(NOW - since),
                last_signal: sent.map(|(signal, ago)| taken(signal, NOW - ago)),
                still: None,
            };
            let policy = ReapPolicy { last_signal, ..ReapPolicy::default() };
            let due = due(&stale(StaleState::Idle), &past, &policy, NOW);
            assert_eq!(signal(&due), expected, "{what}: {due:?}");
        }
    }

    #[test]
    fn clients_are_cut_only_where_the_policy_says_so() {
        let never = ReapPolicy::default();
        let soon = ReapPolicy { draining_seconds: Some(600.0), ..never.clone() };
        let half = ReapPolicy { half_closed_seconds: Some(300.0), ..never.clone() };
        let table = [
            ("never", &never, 1e6, None, false, None),
            ("not yet", &soon, 599.0, None, false, None),
            ("due", &soon, 600.0, None, false, Some("USR1")),
            ("half closed, and no policy", &never, 1e6, Some(1e6), true, None),
            ("half closed", &half, 1e6, Some(300.0), true, Some("USR1")),
            ("a byte moved", &half, 1e6, Some(299.0), true, None),
            ("not for so long without a listener", &half, 299.0, Some(1e6), true, None),
            ("one of them is open", &half, 1e6, Some(1e6), false, None),
            ("it is not known whether bytes move", &half, 1e6, None, true, None),
        ];
        for (what, policy, since, still, only_half_closed, expected) in table {
            let mut process = stale(StaleState::Draining);
            process.traffic =
                Some(Traffic { connections: 1, peers: 1, moved_bytes: Some(7), only_half_closed });
            let past = ProcessHistory {
                without_listener: Some(NOW - since),
                still: still.map(|ago| (NOW - ago, 7)),
                last_signal: None,
            };
            let due = due(&process, &past, policy, NOW);
            assert_eq!(signal(&due), expected, "{what}: {due:?}");
        }
    }

    #[test]
    fn a_process_of_which_nothing_is_remembered_begins_now() {
        let policy = ReapPolicy { draining_seconds: Some(1.0), ..ReapPolicy::default() };
        for state in [StaleState::Idle, StaleState::Draining] {
            let due = due(&stale(state), &ProcessHistory::default(), &policy, NOW);
            assert_eq!(signal(&due), None, "{state:?}: {due:?}");
        }
    }

    /// A reaper that ended at the wrong moment may not have sent what it had announced.
    #[test]
    fn a_signal_that_was_perhaps_not_sent_is_sent_again() {
        let past = |signal, ago| ProcessHistory {
            without_listener: Some(0.0),
            still: None,
            last_signal: Some(LastSignal { confirmed: false, ..taken(signal, NOW - ago) }),
        };
        let policy = ReapPolicy { last_signal: StopSignal::Kill, ..ReapPolicy::default() };
        let table = [
            (StaleState::Listening, past(StopSignal::Usr1, 29.0), None),
            (StaleState::Listening, past(StopSignal::Usr1, 30.0), Some("USR1")),
            (StaleState::Idle, past(StopSignal::Usr1, 29.0), None),
            (StaleState::Idle, past(StopSignal::Usr1, 30.0), Some("USR1")),
            (StaleState::Idle, past(StopSignal::Term, 30.0), Some("TERM")),
        ];
        for (state, past, expected) in table {
            let due = due(&stale(state), &past, &policy, NOW);
            assert_eq!(signal(&due), expected, "{state:?} {past:?}: {due:?}");
        }
    }
}
