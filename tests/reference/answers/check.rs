//! What `check` answers, about a configuration and about ports.

use haproxy_host_exporter::check as judged;
use haproxy_host_exporter::model::What;
use serde_json::Value;

use super::parts::{place, protocol, unreadable, version};
use crate::form::{
    Key, boolean, integer, key, list, nullable, object, one_of, part, schema, sometimes, string,
};

/// A finding of `check`, about a line or a port.
fn finding() -> Vec<Key> {
    vec![
        key("kind", one_of(judged::Kind::ALL.map(judged::Kind::as_str)), "Kind."),
        key(
            "severity",
            one_of(judged::Severity::ALL.map(judged::Severity::as_str)),
            "An error forbids the reload.",
        ),
        key("file", nullable(string()), "File, where it is about a line."),
        key("line", nullable(integer()), "Line, from 1."),
        key("column", nullable(integer()), "Column, from 1."),
        key("protocol", nullable(protocol()), "Protocol, where it is about a port."),
        key("address", nullable(string()), "Address, where it is about a port."),
        key("port", nullable(integer()), "The first port."),
        key("last_port", nullable(integer()), "The last port."),
        key("interface", nullable(string()), "Interface, where it is about a port."),
        key("netns", nullable(string()), "Network namespace, where it is about a port."),
        key("holder", string(), "What holds the port; empty where nothing does."),
        key("what", string(), "What is wrong, in one sentence."),
        key("evidence", list(string()), "What shows it."),
        key("advice", string(), "What to do."),
    ]
}

pub fn check() -> Value {
    let owner = || sometimes("haproxy", string(), "The service whose policy and ports counted.");
    let with_owner = |mut keys: Vec<Key>| {
        keys.push(owner());
        object(keys)
    };
    let at_line =
        |about: &'static str| vec![key("file", string(), "File."), key("line", integer(), about)];
    let mut listener = place(key("port", integer(), "Port number."));
    listener.extend(at_line("Line, from 1."));
    listener.push(key("section", string(), "The section of the line, such as `frontend web`."));
    let mut uncertain = at_line("Line, from 1.");
    uncertain.push(key("why", string(), "Why it could not be decided."));
    let mut resolved = at_line("Line, from 1.");
    resolved.push(key("name", string(), "The host name."));
    resolved.push(key("address", string(), "The address that it stands for."));
    let bound = place(key("port", integer(), "Port number."));
    let changes = vec![
        key("added", nullable(list(part("bound"))), "Ports that the reload adds."),
        key("dropped", nullable(list(part("bound"))), "Ports that the reload drops."),
        key("kept", nullable(integer()), "Number of ports that it keeps."),
        key(
            "restart",
            nullable(boolean()),
            "It takes a restart, because the program on disk is of another branch.",
        ),
        key(
            "running_version",
            nullable(string()),
            "The version that runs, if the branches differ.",
        ),
        key("next_version", nullable(string()), "The version on disk, if the branches differ."),
    ];
    let binary = vec![
        key("path", string(), "The HAProxy that was asked."),
        key("version", nullable(string()), "Its version."),
        key("accepted", nullable(boolean()), "Whether it accepts the configuration."),
        key("left_out", nullable(string()), "Why it was not asked."),
    ];
    let mut unread = vec![
        key("what", one_of(What::ALL.map(What::as_str)), "What could not be read."),
        key("subject", string(), "Of which process, file or namespace."),
        key("reason", string(), "Why not, and which right is missing."),
    ];
    unread.push(owner());
    let root = object(vec![
        version(),
        key(
            "listeners",
            list(part("listener")),
            "What the configuration would bind, one entry for each port.",
        ),
        key("anomalies", list(part("finding")), "What is wrong."),
        key("uncertain", list(part("uncertain")), "Lines that could not be decided."),
        key("resolved", list(part("resolved")), "Host names that were looked up."),
        key(
            "changes",
            list(part("changes")),
            "What the reload changes against the running generation.",
        ),
        key("binaries", list(part("binary")), "The HAProxys that were asked."),
        key("unreadable", list(part("unreadable")), "What could not be read."),
    ]);
    schema(
        "check",
        "What `check --output json` prints.",
        root,
        vec![
            ("listener", with_owner(listener)),
            ("finding", with_owner(finding())),
            ("uncertain", with_owner(uncertain)),
            ("resolved", with_owner(resolved)),
            ("changes", with_owner(changes)),
            ("bound", object(bound)),
            ("binary", with_owner(binary)),
            ("unreadable", object(unread)),
        ],
    )
}

pub fn check_port() -> Value {
    let port = object(vec![
        key("port", integer(), "Port number."),
        key("protocol", protocol(), "Protocol."),
        key("address", string(), "Address that was asked about."),
        key("free", nullable(boolean()), "Whether a new listener may be given it."),
        key("anomalies", list(part("finding")), "What speaks against it."),
    ]);
    let root = object(vec![
        version(),
        key("ports", list(part("port")), "The answers, in the order of protocol and number."),
        key("unreadable", list(part("unreadable")), "What could not be read."),
    ]);
    schema(
        "check --port",
        "What `check --port … --output json` and `check --free … --output json` print.",
        root,
        vec![("port", port), ("finding", object(finding())), ("unreadable", unreadable())],
    )
}
