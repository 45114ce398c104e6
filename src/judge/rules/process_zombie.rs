//! Rule `process_zombie`: dead processes are not reaped by their parent.

use std::collections::BTreeMap;

use super::explain::parent_name;
use super::input::RuleInput;
use crate::haproxy::lineage::member::Member;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::verdict::{Subject, Target};

/// Finds parents that do not reap dead HAProxy processes.
pub fn process_zombie(input: &RuleInput<'_>) -> Judgement {
    let case = input.case;
    let mut by_parent: BTreeMap<i32, Vec<&Member<'_>>> = BTreeMap::new();
    for zombie in case.service.members.iter().filter(|member| !member.lives()) {
        by_parent.entry(zombie.process.parent).or_default().push(zombie);
    }
    let findings = by_parent.into_iter().map(|(parent, zombies)| {
        let name = parent_name(input, parent);
        let pids: Vec<_> = zombies.iter().map(|zombie| zombie.id().pid.to_string()).collect();
        Finding {
            subject: Subject { port: None, holder: name.clone() },
            target: Target::Parent(parent),
            instance: parent.to_string(),
            since: zombies
                .iter()
                .map(|z| input.case.pasts.get(&z.id()).and_then(|past| past.zombie_since))
                .map(|since| since.unwrap_or(input.case.snapshot.taken))
                .reduce(f64::min),
            grace_seconds: None,
            evidence: vec![format!(
                "{name} (pid {parent}) has not reaped {} dead HAProxy process(es): {}",
                pids.len(),
                pids.join(", ")
            )],
            advice: if parent == 1 {
                "run an init that reaps as pid 1 of the container (docker run --init, tini)"
                    .to_owned()
            } else {
                format!("fix or restart {name} (pid {parent}): it must wait for its children")
            },
        }
    });
    Judgement::of(findings.collect())
}

#[cfg(test)]
mod tests {
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const NEXT: &str = "haproxy -D -f /a.cfg -p /run/p -sf 10";

    fn new() -> Actor {
        actor(11, 2, NEXT).tcp(80, 1).udp(443, 2)
    }

    #[test]
    fn a_parent_that_does_not_reap_is_found() {
        let zombie = || actor(12, 3, LINE).child_of(77).dead();
        let verdict = Film::default().settle(1000.0, &[zombie(), new().child_of(77)]);
        assert_eq!(verdict.one().findings(), ["process_zombie unknown"]);
        let mut film = Film::default();
        film.see(1000.0, &[new()]);
        // There is a zombie in every sample, but each one is reaped soon.
        for second in 1u16..40 {
            let passing = actor(100 + i32::from(second), 900, LINE).dead();
            let verdict = film.see(1000.0 + f64::from(second), &[new(), passing]);
            assert!(verdict.services.iter().all(|service| service.findings().is_empty()));
        }
    }
}
