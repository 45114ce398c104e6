//! Finds the services that lost listeners belonged to: listeners that are in the tables and have no known
//! holder.

use std::collections::BTreeSet;

use crate::haproxy::lineage::past::Pasts;
use crate::haproxy::lineage::services::Service;
use crate::model::{Gaps, ProcessId};

/// The processes that held the lost listeners of a sample last.
#[derive(Debug, Default)]
pub struct LastHolders<'a> {
    ids: BTreeSet<ProcessId>,
    /// The services that they belonged to.
    names: BTreeSet<&'a str>,
    /// One of them belonged to no service yet and may be root's, so it may have been any service's.
    anyones: bool,
    /// The users of the others that belonged to no service yet and certainly do not belong to root.
    users: BTreeSet<u32>,
}

impl<'a> LastHolders<'a> {
    /// Finds the last holders that these gaps name, with what is remembered of the processes.
    #[must_use]
    pub fn of(gaps: &Gaps, pasts: &'a Pasts) -> LastHolders<'a> {
        let mut holders = LastHolders { ids: gaps.last_holders().collect(), ..Self::default() };
        for id in &holders.ids {
            let name = pasts.get(id).and_then(|past| past.service.as_deref());
            match (name, gaps.last_users.get(id)) {
                (Some(name), _) => holders.names.extend([name]),
                (None, Some(user)) => holders.users.extend([*user]),
                (None, None) => holders.anyones = true,
            }
        }
        holders
    }

    /// One of them may have belonged to the service of this name. `is_its` says whether a user started that
    /// service or the service runs as that user.
    #[must_use]
    pub fn may_be_of(&self, name: &str, is_its: impl Fn(u32) -> bool) -> bool {
        self.anyones || self.names.contains(name) || self.users.iter().any(|user| is_its(*user))
    }

    /// One of them is a process of the service.
    #[must_use]
    pub fn include_one_of(&self, service: &Service<'_>) -> bool {
        !self.ids.is_empty() && service.members.iter().any(|m| self.ids.contains(&m.id()))
    }
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::Verdict;
    use crate::stage::{Actor, Film, actor};

    const USER: u32 = 65_534;

    fn roots() -> Actor {
        actor(10, 100, "haproxy -D -f /a.cfg -p /run/a").tcp(80, 1)
    }

    fn users() -> Actor {
        actor(20, 100, "haproxy -D -f /b.cfg -p /run/b").of_user(USER).tcp(90, 2)
    }

    fn up(verdict: &Verdict) -> Vec<(&str, Option<bool>)> {
        verdict.services.iter().map(|service| (service.name.as_str(), service.up)).collect()
    }

    #[test]
    fn processes_of_a_user_that_come_and_go_hide_no_outage_of_roots() {
        let both = || [roots(), users()];
        let down = |of_root, of_user| vec![("a", of_root), ("b@65534", of_user)];
        let mut film = Film::default();
        film.settle(1000.0, &both());
        let torn = film.see_torn_by(1035.0, &[], &[USER]);
        assert_eq!(up(&torn), down(Some(false), None), "gone");
        let draining = [roots(), users()]
            .map(|actor| actor.change(|process| process.sockets = Some(std::sync::Arc::default())));
        let mut film = Film::default();
        film.settle(1000.0, &both());
        let torn = film.see_torn_by(1035.0, &draining, &[USER]);
        assert_eq!(up(&torn), down(Some(false), None), "its process is still there");
        let torn = film.see_torn_by(1040.0, &draining, &[1000]);
        assert_eq!(up(&torn), down(Some(false), Some(false)), "a third user");
        let torn = film.see_torn(1045.0, &draining);
        assert_eq!(up(&torn), down(None, None), "they may be root's");
    }

    /// Root started it, and it has run as that user since.
    #[test]
    fn a_service_that_has_run_as_the_user_is_concerned() {
        let serving = || {
            let daemon = actor(10, 100, "haproxy -D -f /a.cfg -p /run/p").pidfile(&[10]);
            daemon.of_user(USER).tcp(80, 1)
        };
        let mut film = Film::default();
        assert_eq!(up(&film.settle(1000.0, &[serving()])), [("p", Some(true))]);
        assert_eq!(up(&film.see_torn_by(1035.0, &[], &[USER])), [("p", None)]);
        assert_eq!(up(&film.see_torn_by(1040.0, &[], &[1000])), [("p", Some(false))]);
    }

    /// The last holder was of no service yet, and another program holds its listener.
    #[test]
    fn a_listener_that_a_user_lost_hides_no_outage_of_roots() {
        let stray = || actor(30, 999, "haproxy -D -f /c.cfg").of_user(USER).holds(3);
        let mut film = Film::default();
        film.settle(960.0, &[roots()]);
        film.see(1000.0, &[roots(), stray()]);
        let left = || [roots().change(|p| p.sockets = Some(std::sync::Arc::default()))];
        let lost = film.see_lost_of(1005.0, &left(), &[3], &[(stray().process.id, USER)]);
        assert_eq!(up(&lost), [("a", Some(false))]);
        let mut film = Film::default();
        film.settle(960.0, &[roots()]);
        film.see(1000.0, &[roots(), stray()]);
        let lost = film.see_lost_of(1005.0, &left(), &[3], &[]);
        assert_eq!(up(&lost), [("a", None)], "it may have been root's");
    }
}
