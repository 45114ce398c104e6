//! The marks of a report that is drawn again and again: what is new or changed since it was last drawn,
//! and which causes have ended since.
//!
//! Ages and numbers of connections change all the time, so they set no mark.

use super::ranges::{PortRanges, ranges_by};
use crate::haproxy::lineage::generations::Generation;
use crate::judge::changes::{Change, KnownCause};
use crate::judge::verdict::{Cause, ProcessView, ServiceVerdict, Verdict};

/// What a row of ports has in common besides its numbers: the generation and the pids.
pub type PortRow<'v> = PortRanges<'v, (Generation, &'v Vec<i32>)>;

/// What to mark. The default marks nothing, as in a report that is printed once.
#[derive(Debug, Default)]
pub struct Marks<'v> {
    before: Option<&'v Verdict>,
    /// The causes that have ended, and how many seconds each lasted.
    pub ended: Vec<(&'v KnownCause, f64)>,
}

impl<'v> Marks<'v> {
    /// Marks what differs from the verdict that was last drawn; nothing in the first drawing.
    #[must_use]
    pub fn since(before: Option<&'v Verdict>, changes: &'v [Change<'_>]) -> Marks<'v> {
        let ended = changes.iter().filter_map(|change| match change {
            Change::Ended { cause, seconds } => Some((cause, *seconds)),
            _ => None,
        });
        Marks { before, ended: ended.collect() }
    }

    /// Whether a cause is new, has begun to fire, or has other kinds or ports.
    #[must_use]
    pub fn cause(&self, service: &ServiceVerdict, cause: &Cause) -> bool {
        let shown = |cause: &Cause| (cause.pending, cause.kinds.clone(), cause.ports.clone());
        self.differs(service, |before| {
            let mut causes = before.causes.iter();
            causes.any(|old| old.id == cause.id && shown(old) == shown(cause))
        })
    }

    /// Whether a process is new, or has another role, generation or state.
    #[must_use]
    pub fn process(&self, service: &ServiceVerdict, process: &ProcessView) -> bool {
        let shown = |one: &ProcessView| (one.id, one.role, one.generation, one.state);
        self.differs(service, |before| {
            before.processes.iter().any(|old| shown(old) == shown(process))
        })
    }

    /// The rows of ports of a service when it was last drawn; a row that is not among them is marked.
    /// `None` if no row is marked.
    #[must_use]
    pub fn port_rows(&self, service: &ServiceVerdict) -> Option<Vec<PortRow<'v>>> {
        let before = self.before?.services.iter().find(|before| before.name == service.name);
        Some(before.map(port_rows).unwrap_or_default())
    }

    fn differs(
        &self,
        service: &ServiceVerdict,
        is_in: impl FnOnce(&ServiceVerdict) -> bool,
    ) -> bool {
        self.before.is_some_and(|before| {
            let before = before.services.iter().find(|before| before.name == service.name);
            !before.is_some_and(is_in)
        })
    }
}

/// The rows of ports of a service: ports that differ only in their number share one.
#[must_use]
pub fn port_rows(service: &ServiceVerdict) -> Vec<PortRow<'_>> {
    ranges_by(service.ports.iter().map(|port| (&port.key, (port.generation, &port.pids))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::changes::Follower;
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    /// Everything that is marked, in words: `cause port_split`, `process 10`, `ports 80-81`, `ended …`.
    fn marked(marks: &Marks<'_>, verdict: &Verdict) -> Vec<String> {
        let mut words = Vec::new();
        for service in &verdict.services {
            let causes = service.causes.iter().filter(|cause| marks.cause(service, cause));
            words.extend(causes.map(|cause| format!("cause {}", cause.kind.as_str())));
            let processes = service.processes.iter().filter(|one| marks.process(service, one));
            words.extend(processes.map(|process| format!("process {}", process.id.pid)));
            let before = marks.port_rows(service);
            let rows = port_rows(service).into_iter();
            let rows = rows.filter(|row| before.as_ref().is_some_and(|rows| !rows.contains(row)));
            words.extend(rows.map(|row| format!("ports {}", row.shortened())));
        }
        let ended = marks.ended.iter();
        words
            .extend(ended.map(|(cause, lasted)| format!("ended {} {lasted}", cause.kind.as_str())));
        words
    }

    #[test]
    fn what_is_new_or_changed_is_marked_once() {
        let first = || actor(10, 100, LINE).tcp(80, 1).tcp(81, 2);
        let draining = |inode| actor(10, 100, LINE).connected(inode, Established);
        let second = || actor(11, 500, &format!("{LINE} -sf 10")).tcp(80, 3).tcp(82, 4);
        let other = || actor(30, 1020, "haproxy -D -f /b.cfg -p /run/q").tcp(90, 9);
        // Each row has a time, the processes then, and what is marked.
        let table: [(f64, Vec<Actor>, &[&str]); 8] = [
            (1000.0, vec![first()], &[]),
            (1002.0, vec![first()], &[]),
            (
                1004.0,
                vec![first(), second()],
                &[
                    "cause port_split",
                    "process 10",
                    "process 11",
                    "ports tcp 0.0.0.0 80, 82",
                    "ports tcp 0.0.0.0 80-81",
                ],
            ),
            (1005.0, vec![first(), second()], &["cause port_split"]), // it fires
            (1006.0, vec![first(), second()], &[]),
            (1007.0, vec![draining(7), second()], &["process 10", "ended port_split 507"]),
            // Another connection is no change.
            (1008.0, vec![draining(8), second()], &[]),
            (1030.0, vec![second(), other()], &["process 30", "ports tcp 0.0.0.0 90"]),
        ];
        let (mut film, mut follower) = (Film::default(), Follower::with_pending());
        let mut before = None;
        for (taken, actors, expected) in table {
            let verdict = film.see(taken, &actors);
            let changes = follower.follow(&verdict);
            let marks = Marks::since(before.as_ref(), &changes);
            assert_eq!(marked(&marks, &verdict), expected, "at {taken}");
            before = Some(verdict);
        }
    }
}
