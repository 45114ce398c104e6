//! Looks up the host names of a configuration, where the answer is the one that its HAProxy would get.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::host::Host;
use super::target::{Target, is_caller};
use crate::haproxy::config::{Declared, Family, HostQuery, Launch};
use crate::sample::on_demand::host_names;

/// The launch with the addresses of the host names that the configuration has; `None` if it has none, or
/// they may not be looked up here.
pub fn looked_up(host: &Host, target: &Target, declared: &Declared) -> Option<Launch> {
    let queries: BTreeSet<&HostQuery> =
        declared.host_names.iter().map(|name| &name.query).collect();
    if queries.is_empty() || !may_look_up(host, target) {
        return None;
    }
    // With -dG HAProxy asks gethostbyname(3), which knows IPv4 only.
    let only_v4 = target.launch.switches.contains("dG");
    let names: BTreeMap<HostQuery, Result<IpAddr, String>> = queries
        .into_iter()
        .map(|query| {
            let asked = match query.family {
                None if only_v4 => HostQuery { family: Some(Family::V4), ..query.clone() },
                _ => query.clone(),
            };
            (query.clone(), host_names::look_up(&asked))
        })
        .collect();
    Some(Launch { names, ..target.launch.clone() })
}

/// Names are looked up for the caller's own HAProxys, and for root's by root: another user must not choose
/// what the caller asks a name server for, nor how long it waits. A HAProxy that runs elsewhere, as in a
/// container, has a resolver of its own.
fn may_look_up(host: &Host, target: &Target) -> bool {
    let is_own = target.base.reader.as_ref().is_none_or(is_caller);
    let running = target.service.as_deref().and_then(|name| host.service(name));
    is_own && running.is_none_or(|running| host.shares_resolver(running))
}
