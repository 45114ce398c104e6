//! What `inspect` answers, about the host and about one port.

use haproxy_host_exporter::haproxy::lineage::member::Role;
use haproxy_host_exporter::judge::verdict::Origin;
use serde_json::Value;

use super::parts::{
    connections, generations, kinds, place, protocol, severities, states, superseded, unreadable,
    version,
};
use crate::form::{
    boolean, integer, key, list, nullable, object, one_of, part, schema, string, time,
};

fn process() -> Value {
    object(vec![
        key("pid", integer(), "Pid, as the host numbers processes."),
        key("role", one_of(Role::ALL.map(Role::as_str)), "Role."),
        key("generation", generations(), "Generation."),
        key("state", nullable(states()), "Why a stale process is still there."),
        key("start_timestamp", time(), "When it was started."),
        key(
            "superseded_timestamp",
            nullable(time()),
            "When it was superseded, as in `superseded`.",
        ),
        key(
            "superseded",
            nullable(part("superseded")),
            "How it was superseded; null unless it is stale.",
        ),
        key(
            "connections",
            nullable(part("connections")),
            "Its connections; null unless it is stale.",
        ),
    ])
}

fn anomaly() -> Value {
    object(vec![
        key("kind", kinds(), "Kind."),
        key("severity", severities(), "Severity of the kind."),
        key("pending", boolean(), "It has not lasted for its grace yet."),
        key("protocol", nullable(protocol()), "Protocol, where it is about a port."),
        key("address", nullable(string()), "Address, where it is about a port."),
        key("port", nullable(integer()), "Port number, where it is about a port."),
        key("interface", nullable(string()), "Interface, where it is about a port."),
        key("netns", nullable(string()), "Network namespace, where it is about a port."),
        key("holder", string(), "What holds the port, or is in the way; empty where nothing is."),
        key("since_timestamp", time(), "Since when."),
        key("evidence", list(string()), "What shows it."),
        key("advice", string(), "What to do."),
    ])
}

fn cause() -> Value {
    object(vec![
        key(
            "id",
            string(),
            "Stays the same while the cause lasts, over restarts of the exporter too.",
        ),
        key("kind", kinds(), "The first by precedence of the kinds of its anomalies."),
        key("kinds", list(kinds()), "All kinds of its anomalies."),
        key("severity", severities(), "The worst severity of its anomalies."),
        key("pending", boolean(), "All of its anomalies are pending."),
        key("since_timestamp", time(), "Since when."),
        key("subject", string(), "What is acted on."),
        key("ports", list(part("ranges")), "The ports that it is about."),
        key("anomalies", list(integer()), "Its anomalies, by their places in `anomalies`, from 0."),
        key("effect", string(), "What it does to clients, or will do."),
        key("evidence", list(string()), "What shows it."),
        key("advice", string(), "What to do."),
    ])
}

fn ignore() -> Value {
    object(vec![
        key("haproxy", nullable(string()), "The service whose entry it is; null for `defaults`."),
        key("kind", nullable(kinds()), "The kind that it accepted."),
        key("port", nullable(integer()), "The port that it accepted."),
        key("address", nullable(string()), "The address that it accepted."),
        key("reason", nullable(string()), "Its reason."),
        key("until_timestamp", nullable(time()), "When it expired."),
    ])
}

pub fn inspect() -> Value {
    let counted = |names: &[&'static str]| {
        object(names.iter().map(|name| key(name, integer(), "Number of those left out.")).collect())
    };
    let service = object(vec![
        key("name", string(), "Name of the service, as in the label `haproxy`."),
        key(
            "origin",
            one_of(Origin::ALL.map(Origin::as_str)),
            "Whether the exporter's configuration names it.",
        ),
        key("up", nullable(boolean()), "Whether a current process serves."),
        key("mode", string(), "master-worker, daemon or foreground; empty without a process."),
        key("config", nullable(string()), "Its first configuration file."),
        key("pidfile", nullable(string()), "Its pidfile."),
        key("version", nullable(string()), "Its version, where its environment says it."),
        key("processes", list(part("process")), "Its processes, oldest first."),
        key("ports", list(part("port")), "Its listeners."),
        key("anomalies", list(part("anomaly")), "Its anomalies, pending ones included."),
        key(
            "causes",
            list(part("cause")),
            "One entry for each thing that a single action fixes, the worst first.",
        ),
        key(
            "left_out",
            counted(&["anomalies", "causes", "ports", "processes"]),
            "What is not shown; only /state.json leaves anything out.",
        ),
    ]);
    let mut port = place(key("port", integer(), "Port number."));
    port.push(key("generation", generations(), "Generation of the processes that listen."));
    port.push(key("pids", list(integer()), "Processes that hold its sockets."));
    let ranges = place(key("ranges", list(string()), "Port numbers, such as 443 or 8000-8010."));
    let root = object(vec![
        version(),
        key("taken_timestamp", time(), "When the host was looked at."),
        key(
            "left_out",
            counted(&["haproxys", "unreadable"]),
            "What is not shown; only /state.json leaves anything out.",
        ),
        key("haproxys", list(part("haproxy")), "The services, in the order of their names."),
        key("unreadable", list(part("unreadable")), "What could not be read."),
        key("expired_ignores", list(part("ignore")), "Entries of `ignore` that have expired."),
    ]);
    schema(
        "inspect",
        "What `inspect --output json` prints, and what /state.json answers.",
        root,
        vec![
            ("haproxy", service),
            ("process", process()),
            ("superseded", superseded()),
            ("connections", connections()),
            ("port", object(port)),
            ("anomaly", anomaly()),
            ("cause", cause()),
            ("ranges", object(ranges)),
            ("unreadable", unreadable()),
            ("ignore", ignore()),
        ],
    )
}

pub fn inspect_port() -> Value {
    let holder = object(vec![
        key("pid", integer(), "Pid."),
        key("program", string(), "Name of its program."),
        key("haproxy", nullable(string()), "The HAProxy service that it belongs to."),
        key("generation", nullable(generations()), "Its generation, if it is a HAProxy."),
        key("state", nullable(states()), "Its state, if it is stale."),
    ]);
    let used = object(vec![
        key("protocol", protocol(), "Protocol."),
        key("address", string(), "Local address."),
        key("port", integer(), "Local port."),
        key("remote_address", nullable(string()), "Remote address of a connection."),
        key("remote_port", nullable(integer()), "Remote port of a connection."),
        key("interface", string(), "Interface that it is bound to; empty if to none."),
        key("state", string(), "State of the socket, such as listen or established."),
        key("listener", boolean(), "It takes clients."),
        key(
            "outgoing",
            nullable(boolean()),
            "The number is the source port of a connection that was opened here.",
        ),
        key("inode", integer(), "Inode of the socket."),
        key("uid", integer(), "User that made the socket."),
        key("why", string(), "Why the number is used, in words."),
        key("holders", list(part("holder")), "The processes that hold the socket."),
    ]);
    let network = object(vec![
        key("netns", string(), "Network namespace; empty for the host's own."),
        key("ephemeral", nullable(boolean()), "The number is in the kernel's ephemeral range."),
        key("reserved", boolean(), "The number is in net.ipv4.ip_local_reserved_ports."),
        key("uses", list(part("use")), "The sockets that use the number."),
    ]);
    let service = object(vec![
        key("name", string(), "Name of the service."),
        key("declared", nullable(boolean()), "Its configuration on disk declares the port."),
        key("declared_at", list(string()), "Where, as file:line."),
        key("allowed", boolean(), "The policy allows the port."),
        key("reserved_for", nullable(string()), "What the policy reserves the number for."),
    ]);
    let root = object(vec![
        version(),
        key("port", integer(), "The number that was asked about."),
        key("networks", list(part("network")), "The network namespaces that were looked at."),
        key("haproxys", list(part("haproxy")), "What the services expect of the number."),
        key("unreadable", list(string()), "What could not be read."),
    ]);
    schema(
        "inspect --port",
        "What `inspect --port N --output json` prints.",
        root,
        vec![("network", network), ("use", used), ("holder", holder), ("haproxy", service)],
    )
}
