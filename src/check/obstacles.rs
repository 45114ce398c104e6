//! Describes a socket that is in the way of a bind: its owner, why it matters, and what to do.

use super::facts::{Network, Owner, Use};
use super::finding::{Endpoint, Finding, Kind, Severity, socket};
use crate::haproxy::advice;
use crate::haproxy::config::Listener;
use crate::model::{PortRole, PortUse, Program};

/// What a socket means for a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The bind fails, for this reason.
    Certain(&'static str),
    /// The bind may fail, for this reason; it depends on something that could not be seen.
    Doubtful(&'static str),
    /// The bind succeeds, and both sockets take clients.
    Shared,
    /// The socket does not matter.
    None,
}

/// The finding about it, if it matters.
#[must_use]
pub fn finding(
    listener: &Listener,
    port: u16,
    used: &Use,
    obstacle: Obstacle,
    network: &Network,
) -> Option<Finding> {
    let endpoint = Endpoint::of(listener, port..=port);
    let place = listener.place.clone();
    let suffix = network.suffix();
    let (kind, severity, what, label) = match obstacle {
        Obstacle::None => return None,
        // A connection takes no clients.
        Obstacle::Shared
            if !matches!(used.socket.role, PortRole::Listening | PortRole::Peerless) =>
        {
            return None;
        }
        Obstacle::Shared => (
            Kind::PortSplit,
            Severity::Warning,
            format!("{endpoint}{suffix} would be shared with {}", holder(used)),
            "the kernel would hand each client to either of the two".to_owned(),
        ),
        Obstacle::Certain(_) => (
            Kind::PortBlocked,
            Severity::Error,
            format!("{endpoint}{suffix} is held by {}", holder(used)),
            "Address in use: HAProxy would not start".to_owned(),
        ),
        Obstacle::Doubtful(_) => (
            Kind::PortBlocked,
            Severity::Warning,
            format!("{endpoint}{suffix} may be held by {}", holder(used)),
            "this bind may fail".to_owned(),
        ),
    };
    let mut why = match obstacle {
        Obstacle::Certain(why) | Obstacle::Doubtful(why) => vec![why.to_owned()],
        Obstacle::Shared | Obstacle::None => vec![],
    };
    why.push(describe(&used.socket));
    Some(Finding {
        label,
        why,
        help: help(used, network),
        unseen: used.owner == Owner::Unknown,
        endpoint: Some(endpoint),
        holder: holder_label(used),
        ..Finding::new(kind, severity, place, &what)
    })
}

/// The label `holder`; empty if no process holds the socket.
pub(super) fn holder_label(used: &Use) -> String {
    used.owner.holder().map(|holder| holder.label(&used.socket)).unwrap_or_default()
}

/// The process or the connection that holds the socket, as a person names it.
pub(super) fn holder(used: &Use) -> String {
    let what = match used.socket.role {
        PortRole::Connected(_) => match used.socket.remote {
            Some((address, port)) => format!(
                "the connection {}→{} of ",
                socket(used.socket.address, used.socket.port),
                socket(address, port)
            ),
            None => "a connection of ".to_owned(),
        },
        PortRole::TimeWait => "a connection in TIME_WAIT".to_owned(),
        _ => String::new(),
    };
    let who = match &used.owner {
        Owner::Current(pid) => format!("this haproxy itself (pid {pid})"),
        Owner::Stale(pid) => format!("a stale process of this haproxy (pid {pid})"),
        Owner::Haproxy(name, pid) => format!("haproxy {name} (pid {pid})"),
        Owner::Program(program) => format!("{} (pid {})", program.name, program.pid),
        Owner::Stranger => format!("another program (uid {})", used.socket.uid),
        Owner::Unknown => format!("a process that could not be seen (uid {})", used.socket.uid),
        Owner::NoProcess => String::new(),
    };
    what + &who
}

/// The socket in one line: its addresses, its user and its inode.
pub(super) fn describe(held: &PortUse) -> String {
    let local = socket(held.address, held.port);
    let identity = held.inode.map(|inode| format!(", inode {inode}")).unwrap_or_default();
    let addresses = match (held.role, held.remote) {
        (PortRole::Listening, _) => format!("listens on {local}"),
        (PortRole::Peerless, _) => format!("UDP on {local}"),
        (PortRole::Bound, _) => format!("bound to {local}"),
        (_, Some((address, port))) => format!("{local}→{}", socket(address, port)),
        (_, None) => local,
    };
    format!("{addresses}, uid {}{identity}", held.uid)
}

/// What frees the port, as far as that can be known.
pub(super) fn help(used: &Use, network: &Network) -> Vec<String> {
    let port = used.socket.port;
    let list_holders = || advice::list_holders(&network.label, port);
    let exposed = network.ephemeral().gives_away(port) == Some(true);
    let frees = match (used.socket.role, &used.owner) {
        (PortRole::Connected(_), _) => match used.socket.remote {
            Some(remote) => format!(
                "wait until it ends, or end it: {}",
                advice::end_connection(&network.label, port, remote)
            ),
            None => "wait until it ends".to_owned(),
        },
        (PortRole::TimeWait, _) => "wait a minute".to_owned(),
        (_, Owner::Stale(pid)) => advice::soft_stop(*pid),
        (_, Owner::Program(Program { name, pid })) => {
            format!("choose another port or address, or stop {name} (pid {pid})")
        }
        (_, Owner::Haproxy(name, _)) => {
            format!("choose another port or address, or remove it from haproxy {name} first")
        }
        (_, Owner::Unknown) => format!(
            "run this with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or look as root: {}",
            list_holders()
        ),
        (_, Owner::Stranger) => format!("as root: {}", list_holders()),
        (PortRole::Peerless, Owner::Current(_)) => {
            "restart HAProxy instead of reloading it: its log socket then gets another number"
                .to_owned()
        }
        _ => String::new(),
    };
    let mut help = Vec::from_iter(Some(frees).filter(|frees| !frees.is_empty()));
    let may_listen = matches!(used.socket.role, PortRole::Listening | PortRole::Bound);
    if exposed && !may_listen {
        help.push(format!(
            "so that it does not happen again: {}",
            network.ephemeral().reserve_command(&network.label, [port])
        ));
    }
    help
}
