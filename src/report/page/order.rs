//! Which services the page for a person shows, and in which order.

use super::filter::Filter;
use crate::judge::account::by_precedence;
use crate::judge::verdict::{ServiceVerdict, Verdict};

/// The number of services of users other than root that the page shows before it counts the rest.
const MOST_OF_USERS: usize = 100;

/// The services that the filter takes, the worst first, and how many of users other than root are left
/// out: one user can have hundreds.
pub fn worst_first<'v>(verdict: &'v Verdict, filter: &Filter) -> (Vec<&'v ServiceVerdict>, usize) {
    let (trusted, others) = by_precedence(&verdict.services);
    let is_taken = |service: &&ServiceVerdict| filter.takes(service);
    let others: Vec<_> = others.into_iter().filter(is_taken).collect();
    let left_out = others.len().saturating_sub(MOST_OF_USERS);
    let trusted = trusted.into_iter().filter(is_taken);
    let mut services: Vec<_> = trusted.chain(others.into_iter().take(MOST_OF_USERS)).collect();
    services.sort_by(|one, other| one.name.cmp(&other.name));
    services.sort_by_key(|service| {
        let severities = service.causes.iter().filter(|c| !c.pending).map(|cause| cause.severity);
        severities.min().map_or(u8::MAX, |worst| worst as u8)
    });
    (services, left_out)
}

#[cfg(test)]
mod tests {
    use super::{MOST_OF_USERS, worst_first};
    use crate::report::page::filter::Filter;
    use crate::stage::{Film, actor};

    #[test]
    fn the_services_of_users_give_way_on_the_page() {
        let of = |number: u16, user: u32| {
            let line = format!("haproxy -D -f /{number:03}.cfg");
            let actor = actor(100 + i32::from(number), 100, &line).of_user(user);
            actor.tcp(8000 + number, u64::from(number) + 1)
        };
        let most = u16::try_from(MOST_OF_USERS).unwrap();
        let users = (0..most + 50).map(|number| of(number, 65_534));
        let actors: Vec<_> = users.chain([of(400, 0), of(401, 1000)]).collect();
        let verdict = Film::default().settle(1000.0, &actors);
        let (shown, left_out) = worst_first(&verdict, &Filter::default());
        let has = |name: &str| shown.iter().any(|service| service.name == name);
        assert_eq!((shown.len(), left_out), (MOST_OF_USERS + 1, 51));
        assert!(has("400") && has("401@1000") && has("000@65534"));
        assert!(!has("140@65534"));
        let one = Filter::from_query(Some("haproxy=140%4065534"));
        let (shown, left_out) = worst_first(&verdict, &one);
        assert_eq!((shown.len(), left_out), (1, 0));
    }
}
