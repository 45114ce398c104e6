//! What `--output json` prints, as JSON schemas and as one page. `tests/support/schema.rs` holds every answer in
//! the tests against these schemas.

use haproxy_host_exporter::check;
use haproxy_host_exporter::haproxy::lineage::generations::Generation;
use haproxy_host_exporter::haproxy::lineage::member::Role;
use haproxy_host_exporter::haproxy::lineage::proof::Proof;
use haproxy_host_exporter::judge::verdict::{Origin, StaleState};
use haproxy_host_exporter::model::{Protocol, What};
use haproxy_host_exporter::policy::kind::{Kind, Severity};
use haproxy_host_exporter::policy::reap::StopSignal;
use haproxy_host_exporter::reap::effect::Effect;
use serde_json::{Value, json};

use super::form::{
    Key, boolean, integer, key, list, nullable, number, object, one_of, part, schema, sometimes,
    string, time, type_of,
};
use super::{code, head, hold, table};

const STABLE: &str = "The form is stable: keys may be added, and none is renamed or removed within one `version`. \
                      Times are unix seconds. null stands for what is not known or does not apply.";

fn version() -> Key {
    key("version", json!({"const": 1, "type": "integer"}), "Version of this form.")
}

fn protocol() -> Value {
    one_of(Protocol::ALL.map(Protocol::as_str))
}

fn kinds() -> Value {
    one_of(Kind::ALL.map(Kind::as_str))
}

fn states() -> Value {
    one_of(StaleState::ALL.map(StaleState::as_str))
}

fn generations() -> Value {
    one_of(Generation::ALL.map(Generation::as_str))
}

fn unreadable() -> Value {
    object(vec![
        key("what", one_of(What::ALL.map(What::as_str)), "What could not be read."),
        key("subject", string(), "Of which process, file or namespace."),
        key("reason", string(), "Why not, and which right is missing."),
    ])
}

fn superseded() -> Value {
    let proofs = [Proof::Told, Proof::Master, Proof::Pidfile, Proof::Place].map(Proof::as_str);
    object(vec![
        key("by", integer(), "Pid of the process that shows it."),
        key(
            "proof",
            one_of(proofs),
            "What shows it: told and master are certain, pidfile and place are inferred.",
        ),
        key("timestamp", time(), "Since when."),
    ])
}

fn connections() -> Value {
    let counts = ["established", "close_wait", "syn_sent", "unix", "other"];
    object(counts.map(|state| key(state, integer(), "Number of connections in this state.")).into())
}

/// Where a port is: the keys that several objects have.
fn place(port: Key) -> Vec<Key> {
    vec![
        key("protocol", protocol(), "Protocol."),
        key("address", string(), "IP address; IPv6 without brackets."),
        port,
        key("interface", string(), "Interface that it is bound to; empty if to none."),
        key("netns", string(), "Network namespace; empty for the host's own."),
    ]
}

fn inspect() -> Value {
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
        key("causes", list(part("cause")), "What one action each cures, the worst first."),
        key(
            "left_out",
            counted(&["anomalies", "causes", "ports", "processes"]),
            "What is not shown; only /state.json leaves anything out.",
        ),
    ]);
    let process = object(vec![
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
    ]);
    let mut port = place(key("port", integer(), "Port number."));
    port.push(key("generation", generations(), "Generation of the processes that listen."));
    port.push(key("pids", list(integer()), "Processes that hold its sockets."));
    let anomaly = object(vec![
        key("kind", kinds(), "Kind."),
        key("severity", one_of(Severity::ALL.map(Severity::as_str)), "Severity of the kind."),
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
    ]);
    let cause = object(vec![
        key(
            "id",
            string(),
            "Stays the same while the cause lasts, over restarts of the exporter too.",
        ),
        key("kind", kinds(), "The first by precedence of the kinds of its anomalies."),
        key("kinds", list(kinds()), "All kinds of its anomalies."),
        key(
            "severity",
            one_of(Severity::ALL.map(Severity::as_str)),
            "The worst severity of its anomalies.",
        ),
        key("pending", boolean(), "All of its anomalies are pending."),
        key("since_timestamp", time(), "Since when."),
        key("subject", string(), "What is acted on."),
        key("ports", list(part("ranges")), "The ports that it is about."),
        key("anomalies", list(integer()), "Its anomalies, by their places in `anomalies`, from 0."),
        key("effect", string(), "What it does to clients, or will do."),
        key("evidence", list(string()), "What shows it."),
        key("advice", string(), "What to do."),
    ]);
    let ranges = place(key("ranges", list(string()), "Port numbers, such as 443 or 8000-8010."));
    let ignore = object(vec![
        key("haproxy", nullable(string()), "The service whose entry it is; null for `defaults`."),
        key("kind", nullable(kinds()), "The kind that it accepted."),
        key("port", nullable(integer()), "The port that it accepted."),
        key("address", nullable(string()), "The address that it accepted."),
        key("reason", nullable(string()), "Its reason."),
        key("until_timestamp", nullable(time()), "When it expired."),
    ]);
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
            ("process", process),
            ("superseded", superseded()),
            ("connections", connections()),
            ("port", object(port)),
            ("anomaly", anomaly),
            ("cause", cause),
            ("ranges", object(ranges)),
            ("unreadable", unreadable()),
            ("ignore", ignore),
        ],
    )
}

fn inspect_port() -> Value {
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

/// A finding of `check`, about a line or a port.
fn finding() -> Vec<Key> {
    vec![
        key("kind", one_of(check::Kind::ALL.map(check::Kind::as_str)), "Kind."),
        key(
            "severity",
            one_of(check::Severity::ALL.map(check::Severity::as_str)),
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

fn check() -> Value {
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

fn check_port() -> Value {
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

fn reap() -> Value {
    let signals = || one_of(StopSignal::ALL.map(StopSignal::as_str));
    let step = object(vec![
        key("pid", integer(), "Pid."),
        key("signal", signals(), "The signal that is due."),
        key("state", states(), "Why the process is still there."),
        key("reason", string(), "Why it is due."),
        key("superseded", nullable(part("superseded")), "How it was superseded."),
        key("ports", list(string()), "Ports that it holds."),
        key("connections", nullable(part("connections")), "Its connections."),
        key("peers", nullable(integer()), "Number of remote addresses."),
        key("least_age_seconds", nullable(number()), "Every connection is at least this old."),
        key("ends_itself", nullable(string()), "When HAProxy would end it by itself."),
        sometimes("result", one_of(Effect::ALL.map(Effect::as_str)), "What came of the signal."),
        sometimes("hold", string(), "Why the signal was not sent after all."),
        sometimes("released", list(string()), "Ports that the process released."),
        sometimes(
            "given_back",
            list(part("given_back")),
            "Released ports that no process of the service holds any more.",
        ),
        sometimes(
            "connections_left",
            nullable(part("connections")),
            "The connections that are left.",
        ),
    ]);
    let given_back = object(vec![
        key("port", string(), "The port."),
        key("bindable", nullable(boolean()), "Whether it can be bound now."),
    ]);
    let held = object(vec![
        key("pid", integer(), "Pid."),
        key("state", states(), "Why the process is still there."),
        key("signal", nullable(signals()), "The signal that would be due."),
        key("reason", string(), "Why it would be due."),
        key("hold", string(), "What holds it back, as one word."),
        key("because", string(), "What holds it back, in words."),
    ]);
    let waiting = object(vec![
        key("pid", integer(), "Pid."),
        key("state", states(), "Why the process is still there."),
        key("reason", string(), "Why it is left to finish."),
    ]);
    let zombie = object(vec![
        key("pid", integer(), "Pid."),
        key("parent", integer(), "Pid of the parent that has to remove it."),
    ]);
    let service = object(vec![
        key("name", string(), "Name of the service."),
        key(
            "steps",
            list(part("step")),
            "The signals that are due, and with --execute what came of them.",
        ),
        key("held", list(part("held")), "Processes that are due and held back."),
        key("waiting", list(part("waiting")), "Processes that may finish."),
        key("zombies", list(part("zombie")), "Dead processes."),
    ]);
    let root = object(vec![
        version(),
        key("executed", boolean(), "Whether signals were sent."),
        key("haproxys", list(part("haproxy")), "The services that were looked at."),
        key("unreadable", list(part("unreadable")), "What could not be read."),
    ]);
    schema(
        "reap",
        "What `reap --output json` prints.",
        root,
        vec![
            ("haproxy", service),
            ("step", step),
            ("superseded", superseded()),
            ("connections", connections()),
            ("given_back", given_back),
            ("held", held),
            ("waiting", waiting),
            ("zombie", zombie),
            ("unreadable", unreadable()),
        ],
    )
}

/// The schemas by the name of their file.
fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("inspect", inspect()),
        ("inspect-port", inspect_port()),
        ("check", check()),
        ("check-port", check_port()),
        ("reap", reap()),
    ]
}

#[test]
fn schemas() {
    for (name, schema) in all() {
        hold(&format!("{name}.schema.json"), &format!("{schema:#}\n"));
    }
}

#[test]
fn page() {
    let mut page = head("JSON", STABLE);
    for (name, schema) in all() {
        let title = schema["title"].as_str().unwrap();
        let about = schema["description"].as_str().unwrap();
        page +=
            &format!("## {title}\n\n{about} Schema: [{name}.schema.json]({name}.schema.json).\n\n");
        page += &keys(name, &schema);
        let definitions = schema["$defs"].as_object().unwrap();
        for (part, definition) in definitions {
            page += &format!("### {title}: {part}\n\n");
            page += &keys(name, definition);
        }
    }
    hold("json.md", &(page.trim_end().to_owned() + "\n"));
}

/// The keys of an object.
fn keys(schema: &str, object: &Value) -> String {
    let required: Vec<&str> =
        object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows = object["properties"].as_object().unwrap().iter().map(|(name, key)| {
        // An anchor leads to the part of the same answer.
        let anchor = schema.replace("-port", "---port");
        let kind = type_of(key).replace("](#", &format!("](#{anchor}-"));
        let about = key["description"].as_str().unwrap();
        let sometimes = if required.contains(&name.as_str()) { "" } else { " Not in every entry." };
        vec![code(name), kind, format!("{about}{sometimes}")]
    });
    table(&["key", "type", "meaning"], rows) + "\n"
}
