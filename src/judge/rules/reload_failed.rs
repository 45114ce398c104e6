//! Rule `reload_failed`: the last reload of a master did not take effect.

use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::reload_count::numbers;
use crate::model::Signals;

/// Finds a master whose reload number no worker has, and a master that does not take SIGUSR2.
pub fn reload_failed(input: &RuleInput<'_>) -> Judgement {
    let case = input.case;
    let mut findings = Vec::new();
    for master in case.living(Generation::Current).filter(|m| m.role == Role::Master) {
        if master.process.signals.is_some_and(|s| s.pending & Signals::SIGUSR2 != 0) {
            let pid = master.id().pid;
            findings.push(Finding {
                instance: "pending".to_owned(),
                evidence: vec![format!(
                    "SIGUSR2 is pending on master {pid}: a reload was requested and has not begun"
                )],
                advice: format!(
                    "the master hangs: see its state in /proc/{pid}/status, then restart the service"
                ),
                ..Finding::default()
            });
        }
    }
    let numbers = numbers(case);
    // A service that was told to stop softly does not serve any more, and no reload of it failed.
    let serves = case.generations.up == Some(true);
    if let Some(numbers) = numbers.as_ref().filter(|n| serves && n.tried > n.landed && !n.starting)
    {
        findings.push(Finding {
            instance: "number".to_owned(),
            evidence: vec![format!(
                "master {} has tried reload {}, and its newest worker is of reload {}: the old \
                 configuration is still serving",
                numbers.master.id().pid,
                numbers.tried,
                numbers.landed
            )],
            advice: "find the reason in HAProxy's log, check the same files with haproxy -c -f, \
                     fix them and reload again"
                .to_owned(),
            ..Finding::default()
        });
    }
    Judgement::if_known(numbers.is_some(), findings)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::judge::verdict::ServiceVerdict;
    use crate::model::ConnectionState::Established;
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -W -f /a.cfg";

    fn master(number: u32) -> Actor {
        actor(19, 1, LINE).reload(number)
    }

    fn worker(pid: i32, started: u32, number: u32) -> Actor {
        actor(pid, started, LINE).child_of(19).reload(number)
    }

    fn failed(service: &ServiceVerdict) -> bool {
        service.findings().iter().any(|finding| finding == "reload_failed")
    }

    #[test]
    fn a_reload_that_no_worker_came_of_is_found() {
        let serving = || worker(20, 2, 1).tcp(80, 1);
        let parsing = master(2)
            .variable("HAPROXY_MWORKER_REEXEC", "1")
            .variable("HAPROXY_STARTUP_VERSION", "2.6.12")
            .change(|p| {
                if let Some(environment) = &mut p.environment {
                    Arc::make_mut(&mut environment.0).remove("HAPROXY_MWORKER_WAIT_ONLY");
                }
            });
        let pending = master(1).change(|p| p.signals.get_or_insert_default().pending = 0x800);
        let drain = worker(18, 1, 0).connected(9, Established);
        let table: [(&str, Vec<Actor>, bool); 7] = [
            ("landed", vec![master(1), serving()], false),
            ("never reloaded", vec![master(0), worker(20, 2, 0).tcp(80, 1)], false),
            ("ahead of its worker", vec![master(2), serving()], true),
            ("the worker is starting", vec![master(2), serving(), worker(21, 999, 2)], false),
            ("the master is still reading its files (2.5 to 3.0)", vec![parsing, serving()], false),
            ("the signal is pending", vec![pending, serving()], true),
            ("an older worker drains", vec![master(1), drain, serving()], false),
        ];
        for (what, actors, expected) in table {
            let verdict = Film::default().settle(1000.0, &actors);
            assert_eq!(failed(verdict.one()), expected, "{what}");
            assert!(verdict.one().judged(Kind::ReloadFailed), "{what}");
        }
        let daemon = actor(10, 1, "haproxy -D -f /a.cfg").tcp(80, 1);
        let verdict = Film::default().settle(1000.0, &[daemon]);
        assert!(!verdict.one().judged(Kind::ReloadFailed), "a daemon has no reload number");
    }
}
