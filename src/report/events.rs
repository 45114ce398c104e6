//! The last events, newest last: what changed from one verdict to the next, in words. A bounded list
//! keeps them in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::causes::ports_of;
use super::ranges::in_words;
use super::text::{age, counted, cut, printable};
use crate::judge::account::Account;
use crate::judge::changes::{Change, PortChange};
use crate::judge::verdict::PortKey;
use crate::model::UnixSeconds;
use crate::policy::kind::Kind;

/// The number of events that are kept.
const MOST_EVENTS: usize = 50;
/// The words of one event are cut at this many characters.
const MOST_CHARACTERS: usize = 300;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When the sample was taken that showed it.
    pub time: UnixSeconds,
    /// Whose share of the list it takes up.
    account: Account,
    /// The name of its service; `None` if it is about the exporter.
    pub service: Option<String>,
    /// The kinds of its cause, the first by precedence first; empty if it is about no cause.
    pub kinds: Vec<Kind>,
    /// What happened, made harmless and cut; its service and kind stand before it.
    pub words: String,
}

impl Event {
    /// The event of a change that the verdict of this time shows.
    #[must_use]
    pub fn of(change: &Change<'_>, time: UnixSeconds) -> Event {
        let (account, name, kinds) = match change {
            Change::Reloaded { service, .. } | Change::ReloadFailed { service, .. } => {
                (Account::of(service), &service.name, Vec::new())
            }
            Change::Began { service, cause } => {
                (Account::of(service), &service.name, cause.kinds.clone())
            }
            Change::Ended { cause, .. } => {
                (cause.account.clone(), &cause.service, cause.kinds.clone())
            }
        };
        Event { time, account, service: Some(name.clone()), kinds, words: words(change, time) }
    }

    /// The exporter has read its own configuration again.
    #[must_use]
    pub fn configuration_read(is_valid: bool, time: UnixSeconds) -> Event {
        let words = if is_valid {
            "the exporter read its own configuration again, and it is in force"
        } else {
            "the exporter's own configuration is invalid; the last good one stays in force, and \
             the log says why"
        };
        Event {
            time,
            account: Account::Exporter,
            service: None,
            kinds: Vec::new(),
            words: words.to_owned(),
        }
    }
}

fn words(change: &Change<'_>, time: UnixSeconds) -> String {
    let words = match change {
        Change::Reloaded { count, ports, .. } => {
            let times = if *count > 1 { format!(" {count} times") } else { String::new() };
            format!("reloaded{times}; {}", port_words(ports.as_ref()))
        }
        Change::ReloadFailed { count, .. } => {
            let reloads =
                if *count == 1 { "a reload".to_owned() } else { format!("{count} reloads") };
            format!("{reloads} failed; the old configuration still serves")
        }
        Change::Began { cause, .. } => {
            let ports = (!cause.ports.is_empty()).then(|| {
                format!("{}: {}", counted(cause.ports.len(), "port", "ports"), ports_of(cause))
            });
            let about = [Some(printable(&cause.subject)).filter(|s| !s.is_empty()), ports];
            let about: Vec<String> = about.into_iter().flatten().collect();
            let lasted = age(time - cause.since);
            format!("began {lasted} earlier; {}", about.join(", "))
        }
        Change::Ended { cause, seconds } => {
            format!("ended after {}; {}", age(*seconds), printable(&cause.subject))
        }
    };
    cut(words.trim_end_matches("; "), MOST_CHARACTERS)
}

fn port_words(change: Option<&PortChange>) -> String {
    let Some(PortChange { added, dropped }) = change else {
        return "its ports could not all be seen, so what it changed is unknown".to_owned();
    };
    let named = |verb: &str, keys: &[PortKey]| {
        (!keys.is_empty()).then(|| format!("{verb} {}", in_words(keys)))
    };
    let changes = [named("added", added), named("dropped", dropped)];
    let changes: Vec<String> = changes.into_iter().flatten().collect();
    if changes.is_empty() { "the same ports".to_owned() } else { changes.join("; ") }
}

/// The last events. A copy shares its content until one of the two changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Events(Arc<VecDeque<Event>>);

impl Events {
    /// Adds an event. Where there are too many, the account with the most events loses its oldest: a
    /// service that flaps pushes out its own events and not those of the others.
    pub fn add(&mut self, event: Event) {
        let events = Arc::make_mut(&mut self.0);
        events.push_back(event);
        if events.len() > MOST_EVENTS {
            remove_one(events);
        }
    }

    /// The events, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Event> {
        self.0.iter().rev()
    }
}

fn remove_one(events: &mut VecDeque<Event>) {
    let mut counts: BTreeMap<&Account, usize> = BTreeMap::new();
    for event in events.iter() {
        *counts.entry(&event.account).or_default() += 1;
    }
    let most = counts.values().copied().max();
    let oldest = events.iter().position(|event| counts.get(&event.account).copied() == most);
    if let Some(oldest) = oldest {
        events.remove(oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::changes::Follower;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    fn of(account: &Account, number: u32) -> Event {
        let words = number.to_string();
        Event { account: account.clone(), words, ..Event::configuration_read(true, 0.0) }
    }

    fn count(events: &Events, account: &Account) -> usize {
        events.newest_first().filter(|event| event.account == *account).count()
    }

    #[test]
    fn the_newest_events_are_kept() {
        let service = Account::Service("a".to_owned());
        let mut events = Events::default();
        (0..120).for_each(|number| events.add(of(&service, number)));
        let words: Vec<&str> = events.newest_first().map(|event| event.words.as_str()).collect();
        assert_eq!((words.len(), words[0], words[49]), (MOST_EVENTS, "119", "70"));
    }

    #[test]
    fn a_flapping_service_does_not_push_out_the_others() {
        let roots = ["a", "b"].map(|name| Account::Service(name.to_owned()));
        let user = Account::User(1000);
        let mut events = Events::default();
        for number in 0..10 {
            for account in &roots {
                events.add(of(account, number));
            }
            events.add(of(&Account::Exporter, number));
        }
        (0..500).for_each(|number| events.add(of(&user, number)));
        let counts = [&roots[0], &roots[1], &Account::Exporter, &user];
        assert_eq!(counts.map(|account| count(&events, account)), [10, 10, 10, 20]);
        // Those that come later get room again, up to an equal share.
        (0..500).for_each(|number| events.add(of(&roots[0], number)));
        let counts = counts.map(|account| count(&events, account));
        assert_eq!(counts, [15, 10, 10, 15]);
    }

    /// Each row has a time, the processes then, and the words of the events that they show.
    #[test]
    fn events_say_what_changed() {
        let line = |sf: &str| format!("{LINE} -sf {sf}");
        let first = || actor(10, 100, LINE).tcp(80, 1).tcp(443, 2).tcp(444, 3);
        let second = || actor(11, 1004, &line("10")).tcp(80, 4).tcp(8080, 5).tcp(8081, 6);
        let third = || actor(12, 1010, &line("9")).tcp(80, 7);
        let table: [(f64, Vec<Actor>, &[&str]); 5] = [
            (1000.0, vec![first()], &[]),
            (
                1005.0,
                vec![second()],
                &["reloaded; added tcp 0.0.0.0 8080-8081; dropped tcp 0.0.0.0 443-444"],
            ),
            (1045.0, vec![second(), third()], &["reloaded; dropped tcp 0.0.0.0 8080-8081"]),
            (
                1060.0,
                vec![second(), third()],
                &["began 50s earlier; haproxy stale pid 11, 3 ports: \
                 tcp 0.0.0.0 80, 8080-8081"],
            ),
            (1070.0, vec![third()], &["ended after 1m 0s; haproxy stale pid 11"]),
        ];
        let (mut film, mut follower) = (Film::default(), Follower::default());
        for (taken, actors, expected) in table {
            let verdict = film.see(taken, &actors);
            let changes = follower.follow(&verdict);
            let events: Vec<Event> = changes.iter().map(|c| Event::of(c, taken)).collect();
            let words: Vec<&str> = events.iter().map(|event| event.words.as_str()).collect();
            assert_eq!(words, expected, "at {taken}");
            assert!(events.iter().all(|event| event.service.as_deref() == Some("p")));
        }
    }

    #[test]
    fn an_event_is_short_whatever_changed() {
        let first = || actor(10, 100, LINE).tcp(80, 1);
        let many = actor(11, 1004, &format!("{LINE} -sf 10"));
        let many = (0..300).fold(many, |many, n| many.tcp(20_000 + 2 * n, 1000 + u64::from(n)));
        let (mut film, mut follower) = (Film::default(), Follower::default());
        follower.follow(&film.see(1000.0, &[first()]));
        let mut verdict = film.see(1005.0, &[many]);
        for (number, port) in verdict.services[0].ports.iter_mut().enumerate() {
            port.key.interface = format!("e\u{7}{number}").as_str().into();
        }
        let event = Event::of(&follower.follow(&verdict)[0], 1005.0);
        assert_eq!(event.words.chars().count(), MOST_CHARACTERS);
        assert!(event.words.contains("on e\\u{7}") && !event.words.contains('\u{7}'), "{event:?}");
    }
}
