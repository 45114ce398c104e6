//! Rule `pidfile_mismatch`: the pidfile does not name the serving process.

use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::judge::finding::{Finding, Judgement};
use crate::model::{Pidfile, PidfileContent, Process};

/// The number of pids of a pidfile that the evidence names; a pidfile has one for each process of `nbproc`.
const MOST_NAMED: usize = 20;

/// Finds a pidfile that names other processes than the serving one: with a master, the master. A
/// pidfile that is missing or empty is no mismatch.
pub fn pidfile_mismatch(input: &RuleInput<'_>) -> Judgement {
    let case = input.case;
    if case.generations.up != Some(true) {
        return Judgement::if_known(case.generations.up.is_some(), Vec::new());
    }
    let has_master = case.living(Generation::Current).any(|m| m.role == Role::Master);
    let expected = if has_master { Role::Master } else { Role::Daemon };
    let mut complete = true;
    let mut wrong = Vec::new();
    let mut right = false;
    for member in case.living(Generation::Current).filter(|m| m.role == expected) {
        let Some(pidfile) = &member.process.pidfile else { continue };
        let pids = match &pidfile.content {
            PidfileContent::Pids(pids) if !pids.is_empty() => pids,
            PidfileContent::Unreadable => {
                complete = false;
                continue;
            }
            PidfileContent::Pids(_) | PidfileContent::Missing => continue,
        };
        if pidfile.names(member.process) {
            right = true;
            continue;
        }
        // Two services were given the same pidfile, and it names the other one.
        let is_others = |other: &&Process| {
            let same = |file: &Pidfile| file.path == pidfile.path;
            other.pidfile.as_ref().is_some_and(same)
                && case.member(other.id).is_none()
                && pidfile.names(other)
        };
        if case.snapshot.processes.iter().any(|other| is_others(&other)) {
            continue;
        }
        let mut named: Vec<_> = pids.iter().take(MOST_NAMED).map(i32::to_string).collect();
        named
            .extend((pids.len() > MOST_NAMED).then(|| format!("{} more", pids.len() - MOST_NAMED)));
        let path = pidfile.path.display();
        wrong.push(Finding {
            evidence: vec![format!(
                "{path} names {}, and {} serves",
                named.join(", "),
                member.process.own_pid()
            )],
            advice: format!("echo {} > {path}", member.process.own_pid()),
            ..Finding::default()
        });
    }
    wrong.truncate(usize::from(!right));
    Judgement::if_known(complete, wrong)
}

#[cfg(test)]
mod tests {
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    #[test]
    fn a_pidfile_must_name_the_serving_daemon_or_its_master() {
        let table: [(&str, Actor, bool); 4] = [
            ("right", actor(11, 2, LINE).pidfile(&[11]), false),
            ("wrong", actor(11, 2, LINE).pidfile(&[10]), true),
            ("empty", actor(11, 2, LINE).pidfile(&[]), false),
            (
                "right in its own pid namespace",
                actor(11, 2, LINE).pidfile(&[7]).change(|p| p.namespace_pids = vec![11, 7]),
                false,
            ),
        ];
        for (what, actor, wrong) in table {
            let verdict = Film::default().settle(1000.0, &[actor.tcp(80, 1)]);
            let expected: &[&str] = if wrong { &["pidfile_mismatch"] } else { &[] };
            assert_eq!(verdict.one().findings(), expected, "{what}");
        }
        let line = "haproxy -W -f /a.cfg -p /run/p";
        let master = |pids: &[i32]| actor(19, 1, line).pidfile(pids);
        let worker = || actor(20, 2, line).child_of(19).pidfile(&[19]).tcp(80, 1);
        let right = Film::default().settle(1000.0, &[master(&[19]), worker()]);
        assert!(right.one().findings().is_empty());
        let wrong = Film::default().settle(1000.0, &[master(&[20]), worker()]);
        assert_eq!(wrong.one().findings(), ["pidfile_mismatch"]);
    }
}
