//! Rule `process_idle`: a stale process has neither listener nor connection left and still runs.

use super::explain;
use super::input::RuleInput;
use crate::haproxy::holder_label::STALE_HOLDER;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::finding::{Finding, Judgement, instance};
use crate::judge::verdict::{StaleState, Subject, Target};

/// Finds stale processes that have neither a listener nor a connection.
pub fn process_idle(input: &RuleInput<'_>) -> Judgement {
    let case = input.case;
    let mut complete = case.living(Generation::Unknown).next().is_none();
    let mut findings = Vec::new();
    for member in case.living(Generation::Stale) {
        match case.state(member) {
            StaleState::Idle => {}
            StaleState::Unknown => {
                complete = false;
                continue;
            }
            _ => continue,
        }
        let pid = member.id().pid;
        let mut evidence =
            vec![format!("stale pid {pid} has no listener and no connection, and has not exited")];
        evidence.extend(explain::signals(member));
        findings.push(Finding {
            subject: Subject { port: None, holder: STALE_HOLDER.to_owned() },
            target: Target::Process(member.id()),
            instance: instance(member.id()),
            evidence,
            advice: match member.process.run_state {
                'T' | 't' => format!("kill -CONT {pid}"),
                _ => format!("nothing is lost by kill -TERM {pid}; if it stays, kill -KILL {pid}"),
            },
            ..Finding::default()
        });
    }
    Judgement::if_known(complete, findings)
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::StaleState;
    use crate::model::Connection;
    use crate::model::ConnectionState::{CloseWait, Established};
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const NEXT: &str = "haproxy -D -f /a.cfg -p /run/p -sf 10";

    fn old() -> Actor {
        actor(10, 1, LINE)
    }

    fn new() -> Actor {
        actor(11, 2, NEXT).tcp(80, 1).udp(443, 2)
    }

    #[test]
    fn a_stale_process_with_nothing_left_is_found() {
        let pair = |pair| Connection::Unix { inode: 9, pair };
        let quic = |local_port| Connection::Udp { inode: 9, local_port };
        let idle: &[&str] = &["process_idle haproxy stale"];
        let table: [(&str, Actor, StaleState, &[&str]); 9] = [
            ("nothing left", old(), StaleState::Idle, idle),
            ("established", old().connected(9, Established), StaleState::Draining, &[]),
            ("close wait", old().connected(9, CloseWait), StaleState::Draining, &[]),
            ("a unix stream", old().connection(pair(Some(false))), StaleState::Draining, &[]),
            ("the master's pair", old().connection(pair(Some(true))), StaleState::Idle, idle),
            ("a pair or not", old().connection(pair(None)), StaleState::Unknown, &[]),
            ("QUIC", old().connection(quic(443)), StaleState::Draining, &[]),
            ("QUIC on a deleted port", old().connection(quic(444)), StaleState::Draining, &[]),
            ("a resolver", old().connection(quic(40000)), StaleState::Idle, idle),
        ];
        for (what, actor, state, expected) in table {
            let verdict = Film::default().settle(1000.0, &[actor, new()]);
            assert_eq!(verdict.one().processes[0].state, Some(state), "{what}");
            assert_eq!(verdict.one().findings(), expected, "{what}");
            let judged = verdict.one().judged(Kind::ProcessIdle);
            assert_eq!(judged, state != StaleState::Unknown, "{what}");
        }
    }
}
