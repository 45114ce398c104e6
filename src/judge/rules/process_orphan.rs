//! Rule `process_orphan`: a worker has lost its master.

use super::explain::{self, parent_name};
use super::input::RuleInput;
use crate::haproxy::lineage::member::Role;
use crate::judge::finding::{Finding, Judgement, instance};
use crate::judge::verdict::{Subject, Target};

/// Finds workers whose parent is not an HAProxy master.
pub fn process_orphan(input: &RuleInput<'_>) -> Judgement {
    let orphans = input.case.service.members.iter().filter(|member| {
        member.lives()
            && member.role == Role::Worker
            && member.master.is_none()
            && !member.launching
    });
    let findings = orphans.map(|member| {
        let (pid, parent) = (member.id().pid, member.process.parent);
        let name = parent_name(input, parent);
        let mut evidence = vec![format!("the parent of worker {pid} is {name} (pid {parent})")];
        evidence.extend(explain::signals(member));
        Finding {
            subject: Subject { port: None, holder: name },
            target: Target::Process(member.id()),
            instance: instance(member.id()),
            evidence,
            advice: format!("start the service again, then {}", explain::how_to_end(member)),
            ..Finding::default()
        }
    });
    Judgement::of(findings.collect())
}

#[cfg(test)]
mod tests {
    use crate::stage::{Film, actor};

    #[test]
    fn a_worker_without_a_master_is_found() {
        let line = "haproxy -sf 9 -x sockpair@3 -W -f /a.cfg";
        let worker = |parent| actor(20, 2, line).child_of(parent).reload(1).tcp(80, 1);
        let master = actor(19, 1, "haproxy -W -f /a.cfg").reload(1);
        let with_master = Film::default().settle(1000.0, &[master, worker(19)]);
        assert!(with_master.one().findings().is_empty());
        let orphan = Film::default().settle(1000.0, &[worker(1)]);
        assert_eq!(orphan.one().findings(), ["process_orphan init"]);
        assert_eq!(orphan.one().causes[0].subject, "worker pid 20");
    }

    #[test]
    fn a_daemon_by_configuration_alone_is_no_orphan() {
        let text = "global\n daemon\nfrontend a\n bind :80\n";
        let line = "haproxy -f /a.cfg";
        let launcher = actor(10, 100, line).configured(text, 50).change(|p| p.session = 5);
        let daemon = || actor(11, 100, line).configured(text, 50).tcp(80, 1);
        let mut film = Film::default();
        film.see(100.5, &[launcher, daemon().child_of(10)]);
        film.see(101.0, &[daemon()]);
        let verdict = film.see(200.0, &[daemon()]);
        assert_eq!(verdict.one().findings(), [""; 0], "not a worker that lost its master");
        assert_eq!(verdict.one().identity.mode, "daemon");
    }
}
