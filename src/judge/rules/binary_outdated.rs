//! Rule `binary_outdated`: a current process runs a file that was replaced on disk.

use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::finding::{Finding, Judgement, instance};

/// Finds current processes whose executable the kernel shows as deleted: it was replaced or removed.
pub fn binary_outdated(input: &RuleInput<'_>) -> Judgement {
    let mut complete = input.case.living(Generation::Unknown).next().is_none();
    let mut findings = Vec::new();
    for member in input.case.living(Generation::Current) {
        match &member.process.executable {
            None => complete = false,
            Some(executable) if executable.deleted => findings.push(Finding {
                instance: instance(member.id()),
                evidence: vec![format!(
                    "{} {} runs {}, which is no longer that file on disk",
                    member.role.as_str(),
                    member.id().pid,
                    executable.path.display()
                )],
                advice: "the upgrade is not in effect yet: restart (a master keeps its old code \
                         until it is reloaded, its workers until they are replaced)"
                    .to_owned(),
                ..Finding::default()
            }),
            Some(_) => {}
        }
    }
    Judgement::if_known(complete, findings)
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
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
    fn a_current_process_whose_executable_was_replaced_is_found() {
        let outdated = |actor: Actor| {
            actor.change(|p| {
                let executable = p.executable.take();
                p.executable = executable.map(|e| crate::model::Executable { deleted: true, ..e });
            })
        };
        let current = Film::default().settle(1000.0, &[outdated(new())]);
        assert_eq!(current.one().findings(), ["binary_outdated"]);
        let drain = [outdated(old().connected(9, Established)), new()];
        assert!(Film::default().settle(1000.0, &drain).one().findings().is_empty());
        let unseen = Film::default().settle(1000.0, &[new().change(|p| p.executable = None)]);
        assert!(!unseen.one().judged(Kind::BinaryOutdated));
    }
}
