//! Chooses the services whose series are left out where the page would become too long.
//!
//! Any local user can start many HAProxys with many ports. Configured services therefore come first,
//! then those that root started, then those of other users: the first of each user, then the second
//! of each, and so on.

use super::families::{CAPPED, Families};
use super::services;
use crate::judge::account::by_precedence;
use crate::judge::verdict::{Origin, ServiceVerdict};
use crate::policy::Policy;

/// The series that every service has, independent of its ports: no service has more.
const MOST_OF_ONE: usize = 256;
/// The series that belong to no service: no page has more.
const MOST_OF_NONE: usize = 128;

/// How many series a page may have.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of each metric with one series for each port or anomaly, for one service.
    pub of_a_service: usize,
    /// Of all services together. Configured services have the series that every service has even
    /// where these are more.
    pub of_the_page: usize,
}

impl Limits {
    /// The limits that the operator has set.
    #[must_use]
    pub fn of(policy: &Policy) -> Limits {
        Limits { of_a_service: policy.max_port_series, of_the_page: policy.max_series }
    }
}

/// Adds the series of the services, and counts those that are left out.
pub fn add_services(page: &mut Families, services: &[ServiceVerdict], limits: Limits) {
    let most = limits.of_the_page.saturating_sub(MOST_OF_NONE);
    let limit = |page: &Families| {
        let left = most.saturating_sub(page.len());
        limits.of_a_service.min(left / CAPPED.len())
    };
    let is_configured = |service: &ServiceVerdict| service.origin == Origin::Configured;
    let (mut trusted, others) = by_precedence(services);
    // What every service has comes before the ports of the first.
    trusted.retain(|service| {
        let shown = is_configured(service) || fits(page, service, most);
        add_or_drop(page, service, shown);
        shown
    });
    for service in trusted {
        let limit = limit(page);
        services::add_listed(page, service, limit);
    }
    for service in others {
        let shown = fits(page, service, most);
        add_or_drop(page, service, shown);
        if shown {
            let limit = limit(page);
            services::add_listed(page, service, limit);
        }
    }
}

/// Whether there is room for the series that a service has independent of its ports.
fn fits(page: &mut Families, service: &ServiceVerdict, most: usize) -> bool {
    let left = most.saturating_sub(page.len());
    // Counting them is seldom needed.
    left >= MOST_OF_ONE || page.count(|page| services::add(page, service)) <= left
}

fn add_or_drop(page: &mut Families, service: &ServiceVerdict, shown: bool) {
    if shown {
        services::add(page, service);
    } else {
        page.drop_all(|page| services::add(page, service));
        services::add_listed(page, service, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::lineage::identity::Identity;
    use crate::judge::verdict::{Port, PortKey};
    use crate::metrics::catalogue as row;
    use crate::model::Protocol;
    use crate::policy::Rules;

    /// A service with this number of ports, of a user; of root if there is no user.
    fn service(name: &str, origin: Origin, user: Option<u32>, ports: u16) -> ServiceVerdict {
        let port = |port| Port {
            key: PortKey {
                protocol: Protocol::Tcp,
                address: [127, 0, 0, 1].into(),
                port,
                interface: "".into(),
                netns: "".into(),
            },
            generation: crate::haproxy::lineage::generations::Generation::Current,
            pids: vec![1],
            inodes: vec![1],
            queue_length: Some(0),
            queue_limit: Some(1),
            drops: Some(0),
        };
        ServiceVerdict {
            origin,
            identity: Identity { starter: user.or(Some(0)), ..Identity::default() },
            ports: (1..=ports).map(port).collect(),
            ..ServiceVerdict::absent(name, &Rules::default())
        }
    }

    fn page(services: &[ServiceVerdict], of_the_page: usize) -> (String, Families) {
        let mut page = Families::default();
        page.begin();
        add_services(&mut page, services, Limits { of_a_service: 500, of_the_page });
        (page.encode().text(), page)
    }

    fn named(text: &str, metric: &str, name: &str) -> usize {
        let start = format!("{metric}{{");
        let label = format!("haproxy=\"{name}\"");
        text.lines().filter(|line| line.starts_with(&start) && line.contains(&label)).count()
    }

    #[test]
    fn the_many_services_of_a_user_give_way_to_all_others() {
        let (root, mallory, alice) = (None, Some(65_534), Some(1000));
        let mut services: Vec<_> = (0..500)
            .map(|number| service(&format!("a{number:03}@65534"), Origin::Discovered, mallory, 60))
            .collect();
        services.push(service("alices@1000", Origin::Discovered, alice, 3));
        services.push(service("roots", Origin::Discovered, root, 50));
        services.push(service("yours", Origin::Configured, alice, 400));
        services.push(service("zone", Origin::Configured, root, 400));
        let (text, page) = page(&services, 20_000);
        assert!(page.len() <= 20_000, "{}", page.len());
        for (name, ports) in [("yours", 400), ("zone", 400), ("roots", 50), ("alices@1000", 3)] {
            assert_eq!(named(&text, row::PORT_INFO.name, name), ports, "{name}");
            assert_eq!(named(&text, row::UP.name, name), 1, "{name}");
        }
        assert_eq!(named(&text, row::PORT_INFO.name, "a499@65534"), 0);
        let shown = text.lines().filter(|line| line.starts_with("haproxy_host_up{")).count();
        assert_eq!(page.dropped(&row::UP), services.len() - shown);
        assert!(shown > 50, "{shown}");
        let bound = text.lines().filter(|line| line.starts_with("haproxy_host_port_info{"));
        assert_eq!(page.dropped(&row::PORT_INFO) + bound.count(), 500 * 60 + 853);
    }

    #[test]
    fn a_configured_service_has_its_series_however_short_the_page() {
        let services = [
            service("first", Origin::Configured, None, 10),
            service("second", Origin::Discovered, None, 10),
        ];
        let (text, page) = page(&services, 0);
        assert_eq!(named(&text, row::UP.name, "first"), 1);
        assert_eq!(named(&text, row::UP.name, "second"), 0);
        assert_eq!(named(&text, row::PORT_INFO.name, "first"), 0);
        assert_eq!((page.dropped(&row::UP), page.dropped(&row::PORT_INFO)), (1, 20));
    }

    #[test]
    fn a_short_page_is_as_it_was() {
        let services = [
            service("a", Origin::Discovered, None, 600),
            service("b", Origin::Configured, None, 3),
        ];
        let (text, page) = page(&services, 20_000);
        assert_eq!(named(&text, row::PORT_INFO.name, "a"), 500);
        assert_eq!((page.dropped(&row::UP), page.dropped(&row::PORT_INFO)), (0, 100));
    }
}
