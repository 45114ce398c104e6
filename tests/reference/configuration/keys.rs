//! The keys of the configuration, as a JSON schema.

use haproxy_host_exporter::policy::kind::Kind;
use haproxy_host_exporter::policy::reap::StopSignal;
use serde_json::{Value, json};

use crate::form::{Key, key, list, object, one_of, part, schema, sometimes, string};

fn duration() -> Value {
    json!({
        "type": "string",
        "pattern": "^[0-9]+ ?[a-zA-Z]+( ?[0-9]+ ?[a-zA-Z]+)*$",
        "examples": ["10s", "5m", "1h 30m", "24h"],
    })
}

fn duration_or_never() -> Value {
    json!({
        "type": "string",
        "pattern": "^(never|[0-9]+ ?[a-zA-Z]+( ?[0-9]+ ?[a-zA-Z]+)*)$",
        "examples": ["never", "12h"],
    })
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn port() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": 65535})
}

/// Ports as the policy writes them; a single number may stand without quotes.
fn ports(examples: &[&str]) -> Value {
    json!({"anyOf": [{"type": "string", "examples": examples}, port()]})
}

fn path() -> Value {
    json!({"type": "string", "pattern": "^/"})
}

fn with_default(mut schema: Value, default: Value) -> Value {
    schema["default"] = default;
    schema
}

/// An object in which no other key may stand.
fn closed(keys: Vec<Key>) -> Value {
    let mut object = object(keys);
    object["additionalProperties"] = json!(false);
    object
}

/// The keys that `defaults` and each entry of `haproxys` have.
fn rules() -> Vec<Key> {
    let allowed =
        ports(&["443", "tcp/10000-29999", "udp/443", "127.0.0.1:8404", "[2001:db8::/32]:443"]);
    vec![
        sometimes(
            "allowed_ports",
            list(allowed),
            "Ports that may be listened on, each written [tcp/|udp/][ADDRESS|NETWORK:]LOW[-HIGH]. An empty list allows none; without this key all are allowed.",
        ),
        sometimes(
            "reserved_ports",
            with_default(list(part("reserved")), json!([])),
            "Port numbers that belong to something else. They are never allowed, and the evidence names what they are reserved for.",
        ),
        sometimes(
            "stale_grace",
            with_default(duration(), json!("10s")),
            "How long a superseded process may keep its listener, and how long most other anomalies must have held before they fire.",
        ),
        sometimes(
            "reload_grace",
            with_default(duration(), json!("1h")),
            "How long an edited configuration may wait for its reload.",
        ),
        sometimes(
            "forget_after",
            with_default(duration(), json!("15m")),
            "How long a discovered service keeps its series after it is gone.",
        ),
        sometimes(
            "thresholds",
            part("thresholds"),
            "Thresholds that the alerting rules compare with.",
        ),
        sometimes(
            "ignore",
            with_default(list(part("ignore")), json!([])),
            "Anomalies that are known and accepted.",
        ),
        sometimes(
            "reap",
            part("reap"),
            "What the command reap may end. Without this section it looks only at what is named on its command line.",
        ),
    ]
}

fn thresholds() -> Value {
    closed(vec![
        sometimes(
            "bound_ports",
            with_default(count(), json!(5000)),
            "Alert when the serving generation has more listeners than this.",
        ),
        sometimes(
            "stale_processes",
            with_default(count(), json!(10)),
            "Alert when there are more stale processes than this.",
        ),
        sometimes(
            "generations",
            with_default(count(), json!(5)),
            "Alert when more generations than this are alive.",
        ),
        sometimes(
            "stale_age",
            with_default(duration(), json!("24h")),
            "Alert when a process has been stale for longer than this.",
        ),
    ])
}

fn reap() -> Value {
    let signals = one_of(StopSignal::ALL.map(StopSignal::as_str));
    let share = json!({"type": "string", "pattern": "^(100|[1-9][0-9]?)%$"});
    let quiet = json!({"type": "string", "examples": ["Mon-Fri 08:00-20:00", "Sat,Sun 22:00-06:00", "08:00-20:00"]});
    closed(vec![
        sometimes(
            "listening",
            with_default(duration(), json!("30s")),
            "How long a superseded process may accept clients before it gets SIGUSR1, which lets it drain. HAProxy's own grace is added.",
        ),
        sometimes(
            "idle",
            with_default(duration(), json!("1m")),
            "How long a process with neither a listener nor a connection may live.",
        ),
        sometimes(
            "draining",
            with_default(duration_or_never(), json!("never")),
            "How long a process may drain before its connections are cut.",
        ),
        sometimes(
            "half_closed",
            with_default(duration_or_never(), json!("never")),
            "The same where only half-closed connections are left, and no byte moves on them.",
        ),
        sometimes(
            "last_signal",
            with_default(signals, json!("TERM")),
            "The strongest signal that may be sent.",
        ),
        sometimes(
            "step_grace",
            with_default(duration(), json!("30s")),
            "Time between two signals to one process.",
        ),
        sometimes(
            "max_per_run",
            with_default(count(), json!(10)),
            "The most signals that one run sends.",
        ),
        sometimes(
            "max_per_hour",
            with_default(count(), json!(30)),
            "The most signals within an hour.",
        ),
        sometimes(
            "max_share",
            with_default(share, json!("50%")),
            "The largest share of the living processes of a service that may be signalled within an hour.",
        ),
        sometimes(
            "quiet",
            with_default(list(quiet), json!([])),
            "Local times at which nothing is signalled, each written [DAY[-DAY][,DAY…] ]HH:MM-HH:MM.",
        ),
    ])
}

/// The whole file.
pub fn configuration() -> Value {
    let matching = closed(vec![
        sometimes("pidfile", path(), "Path of its pidfile."),
        sometimes("config", path(), "Path of its first configuration file or directory."),
        sometimes("master_socket", path(), "Path of its master socket."),
        sometimes(
            "command",
            string(),
            "Regular expression that finds its arguments, joined by blanks. It also finds a HAProxy whose program has another name.",
        ),
        sometimes(
            "cgroup",
            string(),
            "Pattern of its whole cgroup path: * stands for any characters, ? for one.",
        ),
    ]);
    let mut matching = matching;
    matching["minProperties"] = json!(1);
    let mut service = vec![
        key(
            "name",
            string(),
            "Its name: the label haproxy of all its series, which it has even when it is gone.",
        ),
        key("match", part("match"), "What it is recognised by: all conditions that are given."),
    ];
    service.extend(rules());
    let ignore = closed(vec![
        sometimes(
            "kind",
            one_of(Kind::ALL.map(Kind::as_str)),
            "The kind that is accepted; without it, every kind.",
        ),
        sometimes("port", port(), "The port that is accepted; without it, every port."),
        sometimes(
            "address",
            string(),
            "The IP address that is accepted; without it, every address.",
        ),
        sometimes("reason", string(), "Why, for people."),
        sometimes(
            "until",
            json!({"type": "string", "examples": ["2027-03-01", "2027-03-01T18:00:00+01:00"]}),
            "When the entry expires: a date, through its end in UTC, or a time.",
        ),
    ]);
    let reserved = closed(vec![
        key("name", string(), "What the numbers belong to."),
        key(
            "ports",
            list(ports(&["30000-32767", "tcp/6443"])),
            "The numbers, each written [tcp/|udp/]LOW[-HIGH].",
        ),
    ]);
    let metrics = closed(vec![
        sometimes(
            "max_port_series",
            with_default(count(), json!(500)),
            "The most series of each metric with one series a port, for each service.",
        ),
        sometimes(
            "max_series",
            with_default(count(), json!(20000)),
            "The most series of the whole page.",
        ),
    ]);
    let backup = closed(vec![key("directory", path(), "Where backups lie.")]);
    let root = closed(vec![
        sometimes(
            "defaults",
            part("rules"),
            "The rules for every service. A service's own key replaces the default's; thresholds and reap are merged key by key.",
        ),
        sometimes("haproxys", list(part("haproxy")), "The services that have a name of their own."),
        sometimes("metrics", part("metrics"), "Limits of the page of metrics."),
        sometimes("backup", part("backup"), "For the command backup, and for its metrics."),
    ]);
    schema(
        "haproxy-host-exporter configuration",
        "The file of --config.file, in YAML. A directory of such files is read as one configuration.",
        root,
        vec![
            ("rules", closed(rules())),
            ("haproxy", closed(service)),
            ("match", matching),
            ("thresholds", thresholds()),
            ("ignore", ignore),
            ("reserved", reserved),
            ("reap", reap()),
            ("metrics", metrics),
            ("backup", backup),
        ],
    )
}
