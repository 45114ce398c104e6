//! Gives each service its name. The name follows from what the service is, so a restarted exporter and
//! `inspect` agree on it; what was seen before only keeps a service from taking the name of another one
//! that is gone.

use std::collections::{BTreeMap, BTreeSet};

use super::member::Member;
use super::services::Service;
use crate::model::ProcessId;
use crate::model::shortened::{short_hash, shortened};

/// A longer name is cut, so that no user's paths fill the page.
const MOST_CHARACTERS: usize = 64;

/// A service that wants a name.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The name it would have if no other had the same and its starter did not count.
    pub preferred: String,
    /// The user whose choice the name may be, which the name then says.
    pub untrusted_starter: Option<u32>,
    /// Root started it.
    pub is_roots: bool,
    /// Its pidfile, configuration or socket.
    pub path: String,
    /// What distinguishes it from others with the same path.
    pub distinction: String,
    /// Its oldest process, to distinguish services that are equal in everything else.
    pub oldest: Option<ProcessId>,
    /// The name that it had in the last sample.
    pub known_as: Option<String>,
}

impl Candidate {
    /// Root's come before others', then the path that sorts first.
    #[must_use]
    pub fn rank(&self) -> (bool, &str, &str, Option<ProcessId>) {
        (!self.is_roots, &self.path, &self.distinction, self.oldest)
    }

    /// A hash of what distinguishes it from others of its name. Users can make theirs equal.
    #[must_use]
    pub fn hash(&self) -> String {
        short_hash(&format!("{}\0{}", self.path, self.distinction))
    }

    /// Its name with an ending. The beginning gives way where it would be too long.
    fn name(&self, ending: &str) -> String {
        let user = self.untrusted_starter.map(|uid| format!("@{uid}")).unwrap_or_default();
        let left = MOST_CHARACTERS.saturating_sub(user.len() + ending.len());
        format!("{}{user}{ending}", shortened(&self.preferred, left))
    }
}

/// A name for each: the one that ranks first keeps its plain name, the others get a hash besides.
/// `taken`: names that are not to be given. `gone`: names of services that have no process now; a
/// service that is known by another name does not take one of them.
#[must_use]
pub fn assign(
    candidates: &[Candidate],
    mut taken: BTreeSet<String>,
    gone: &BTreeSet<&str>,
) -> Vec<String> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&index| candidates.get(index).map(Candidate::rank));
    let mut names = vec![String::new(); candidates.len()];
    let mut numbers: BTreeMap<(&str, Option<u32>, String), u64> = BTreeMap::new();
    for index in order {
        let Some((candidate, slot)) = candidates.get(index).zip(names.get_mut(index)) else {
            continue;
        };
        let plain = candidate.name("");
        let hash = candidate.hash();
        let hashed = std::iter::once_with(|| candidate.name(&format!("-{hash}")));
        let number = |count: u64| candidate.name(&format!("-{hash}-{count}"));
        // Many may be told apart by their numbers alone, so each begins where the last one ended.
        let of_these = (candidate.preferred.as_str(), candidate.untrusted_starter, hash.clone());
        let first = numbers.entry(of_these).or_insert(2);
        while taken.contains(&number(*first)) {
            *first += 1;
        }
        let numbered = (*first..).map(number);
        let mut all = std::iter::once(plain.clone()).chain(hashed).chain(numbered);
        // A service that has come back, and that no process links to its past, is recognised by this hash.
        let hashed_name = candidate.name(&format!("-{hash}"));
        let come_back = gone.contains(hashed_name.as_str()).then_some(&hashed_name);
        let known_as = candidate.known_as.as_ref().or(come_back);
        let is_anothers =
            |name: &String| gone.contains(name.as_str()) && known_as.is_some_and(|own| own != name);
        let free = all.find(|name| !taken.contains(name) && !is_anothers(name));
        *slot = free.unwrap_or(plain);
        taken.insert(slot.clone());
    }
    names
}

/// What distinguishes a service from others with the same pidfile or configuration: its root, namespaces,
/// starter, and the values of the variables that its configuration reads.
///
/// The namespaces of a container are new whenever it is replaced and would give its successor another name, so
/// copies of one pod are ordered by their age alone.
#[must_use]
pub fn distinction(service: &Service<'_>) -> String {
    let mut living = service.members.iter().filter(|member| member.lives());
    // One that is just being executed shows nothing of how it was started.
    let shows =
        |member: &&Member<'_>| member.line.is_some() && member.process.environment.is_some();
    let Some(member) = living.clone().rfind(shows).or_else(|| living.next_back()) else {
        return String::new();
    };
    let process = member.process;
    let root = process.root.as_ref().filter(|_| !process.in_own_jail());
    let read = process.configuration.iter().flat_map(|c| &c.declared.variables);
    let environment = process.environment.as_ref();
    let values: Vec<_> = read
        .filter(|name| !crate::haproxy::environment::is_own_variable(name))
        .map(|name| (name, environment.and_then(|environment| environment.get(name))))
        .collect();
    let line = member.line.as_ref();
    let peer = line.and_then(|line| line.local_peer.as_ref());
    let is_contained = process.namespace_pids.len() > 1;
    let places = (!is_contained).then_some((
        process.mount_namespace,
        process.net_namespace,
        process.pid_namespace,
    ));
    format!("{values:?} {root:?} {peer:?} {:?} {places:?}", member.starter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(preferred: &str, is_roots: bool, path: &str, distinction: &str) -> Candidate {
        Candidate {
            preferred: preferred.to_owned(),
            untrusted_starter: None,
            is_roots,
            path: path.to_owned(),
            distinction: distinction.to_owned(),
            oldest: None,
            known_as: None,
        }
    }

    #[test]
    fn one_keeps_the_plain_name_whatever_the_order() {
        let mut candidates = vec![
            candidate("lb", false, "/a/lb.cfg", ""),
            candidate("lb", true, "/c/lb.cfg", ""),
            candidate("lb", true, "/b/lb.cfg", "PORT=1"),
            candidate("lb", true, "/b/lb.cfg", "PORT=2"),
            candidate("web", true, "/b/lb.cfg", ""),
        ];
        let of = |candidates: &[Candidate]| {
            let names = assign(candidates, BTreeSet::new(), &BTreeSet::new());
            let pairs = candidates.iter().map(|c| (c.path.clone(), c.distinction.clone()));
            let mut pairs: Vec<_> = pairs.zip(names).collect();
            pairs.sort();
            pairs
        };
        let names = of(&candidates);
        let plain: Vec<_> = names.iter().filter(|(_, name)| name == "lb").collect();
        assert_eq!(plain.len(), 1);
        assert_eq!(plain[0].0, ("/b/lb.cfg".to_owned(), "PORT=1".to_owned()));
        let distinct: BTreeSet<_> = names.iter().map(|(_, name)| name).collect();
        assert_eq!(distinct.len(), 5);
        candidates.reverse();
        assert_eq!(of(&candidates), names);
        candidates.remove(0);
        assert!(of(&candidates).iter().all(|pair| names.contains(pair)), "one less renames none");
    }

    #[test]
    fn what_is_taken_or_the_same_in_all_is_numbered() {
        let same = candidate("lb", true, "/lb.cfg", "");
        let names =
            assign(&[same.clone(), same.clone(), same], ["lb".to_owned()].into(), &BTreeSet::new());
        assert!(names.iter().all(|name| name.starts_with("lb-")), "{names:?}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3);
    }

    /// The first is being restarted, and the second was reloaded twice between two samples, so that
    /// nothing links its process to those that were seen.
    #[test]
    fn what_comes_back_does_not_take_the_name_of_another_that_is_gone() {
        let first = candidate("twin", true, "/t.cfg", "1");
        let second = candidate("twin", true, "/t.cfg", "2");
        let both = assign(&[first, second.clone()], BTreeSet::new(), &BTreeSet::new());
        let gone: BTreeSet<&str> = both.iter().map(String::as_str).collect();
        assert_eq!(
            assign(std::slice::from_ref(&second), BTreeSet::new(), &gone),
            [both[1].as_str()]
        );
        let only_the_first: BTreeSet<&str> = [both[0].as_str()].into();
        assert_eq!(
            assign(&[second], BTreeSet::new(), &only_the_first),
            [both[0].as_str()],
            "a service that moved while it was down goes on"
        );
    }

    #[test]
    fn long_names_are_cut_and_still_say_whose_they_are() {
        let long = candidate(&"x".repeat(200), true, "/lb.cfg", "");
        let other = candidate(&"x".repeat(201), true, "/lb.cfg", "");
        let users = |preferred: &str| Candidate {
            untrusted_starter: Some(4_294_967_294),
            ..candidate(preferred, false, "/lb.cfg", "")
        };
        let all = [long.clone(), other, long, users(&"x".repeat(200)), users(&"x".repeat(200))];
        let names = assign(&all, BTreeSet::new(), &BTreeSet::new());
        assert!(names.iter().all(|name| name.chars().count() <= MOST_CHARACTERS), "{names:?}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), all.len(), "{names:?}");
        assert!(names[3..].iter().all(|name| name.contains("@4294967294")), "{names:?}");
        assert_eq!(assign(&[users("lb")], BTreeSet::new(), &BTreeSet::new()), ["lb@4294967294"]);
    }
}
