//! Decides which service an entry of the exporter's configuration names.

use std::path::PathBuf;

use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::services::Service;
use crate::policy::{Configured, Match, Policy};

/// The first configured entry whose `match` fits the service.
pub fn configured<'p>(
    policy: &'p Policy,
    service: &Service<'_>,
    identity: &Identity,
) -> Option<&'p Configured> {
    policy.haproxys.iter().find(|configured| fits(&configured.matching, service, identity))
}

/// Another user cannot have made up what it says of itself: root started it or its container, or its
/// starter could not be seen.
pub fn is_trusted(identity: &Identity) -> bool {
    identity.is_contained || identity.starter.is_none_or(|starter| starter == 0)
}

fn fits(matching: &Match, service: &Service<'_>, identity: &Identity) -> bool {
    let path = |wanted: &Option<PathBuf>, is: &Option<PathBuf>| {
        wanted.as_ref().is_none_or(|wanted| is.as_ref() == Some(wanted))
    };
    let command = matching.command.as_ref().is_none_or(|command| {
        let mut arguments = service.members.iter().filter_map(|m| m.process.arguments.as_ref());
        arguments.any(|arguments| command.is_match(&arguments.join(" ")))
    });
    let cgroup = matching
        .cgroup
        .as_ref()
        .is_none_or(|cgroup| identity.cgroup.as_ref().is_some_and(|path| cgroup.is_match(path)));
    command
        && cgroup
        && path(&matching.pidfile, &identity.pidfile)
        // A path proves nothing if any user may have named it.
        && (matching.pidfile.is_none() || identity.owns_pidfile || identity.is_contained)
        && path(&matching.config, &identity.config)
        && path(&matching.master_socket, &identity.master_socket)
}
