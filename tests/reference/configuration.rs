//! The exporter's own configuration: a schema for editors, and the page that is made from it. The keys of the schema
//! are those that the program itself names when it meets an unknown one, and its defaults are the program's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use haproxy_host_exporter::config::Config;
use haproxy_host_exporter::policy::Policy;
use haproxy_host_exporter::policy::kind::Kind;
use haproxy_host_exporter::policy::reap::StopSignal;
use serde_json::{Value, json};

use super::form::{Key, key, list, object, one_of, part, schema, sometimes, string, type_of};
use super::support::schema::misfits;
use super::{code, head, hold, table};

const NAME: &str = "configuration.schema.json";

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
            "Too many listeners of the serving generation.",
        ),
        sometimes("stale_processes", with_default(count(), json!(10)), "Too many stale processes."),
        sometimes("generations", with_default(count(), json!(5)), "Too many generations alive."),
        sometimes(
            "stale_age",
            with_default(duration(), json!("24h")),
            "Too great an age of the longest-stale process.",
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

fn configuration() -> Value {
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

#[test]
fn the_schema() {
    hold(NAME, &format!("{:#}\n", configuration()));
}

#[test]
fn the_page() {
    let schema = configuration();
    let mut page = head(
        "Configuration",
        "The keys of `--config.file`, in YAML. None is needed. An unknown key is an error, with its line and column; \
         `--config.check` looks for such errors and exits. An editor that understands JSON schemas completes and checks \
         the file by [configuration.schema.json](configuration.schema.json), for example with this first line:\n\n\
         ```yaml\n# yaml-language-server: $schema=https://example.com/configuration.schema.json\n```\n\n\
         where the address is that of your copy of the schema.",
    );
    page += "## The file\n\n";
    page += &keys(&schema);
    for name in [
        "rules",
        "haproxy",
        "match",
        "thresholds",
        "ignore",
        "reserved",
        "reap",
        "metrics",
        "backup",
    ] {
        page += &format!("## {name}\n\n");
        page += &keys(&schema["$defs"][name]);
    }
    hold("configuration.md", &(page.trim_end().to_owned() + "\n"));
}

fn keys(object: &Value) -> String {
    let required: Vec<&str> =
        object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows = object["properties"].as_object().unwrap().iter().map(|(name, key)| {
        let default = key.get("default").map(|default| match default.as_str() {
            Some(text) => code(text),
            None => code(&default.to_string()),
        });
        let must = if required.contains(&name.as_str()) { "Must be given. " } else { "" };
        let about = key["description"].as_str().unwrap();
        vec![code(name), type_of(key), default.unwrap_or_default(), format!("{must}{about}")]
    });
    table(&["key", "type", "default", "meaning"], rows) + "\n"
}

/// Reads a configuration as the program does.
fn load(name: &str, yaml: &str) -> Result<Config, String> {
    let file = format!("haproxy-host-exporter-reference-{name}-{}.yaml", std::process::id());
    let path = std::env::temp_dir().join(file);
    fs::write(&path, yaml).unwrap();
    let config = Config::load(&path).map_err(|error| error.to_string());
    fs::remove_file(&path).unwrap();
    config
}

/// The program names its keys when it meets one that it does not know.
#[test]
fn the_keys_are_those_of_the_program() {
    let schema = configuration();
    let service = "haproxys: [{name: a, match: {pidfile: /p}, ";
    let table = [
        ("", "nonsense: 1", ""),
        ("rules", "defaults: {nonsense: 1}", ""),
        ("haproxy", service, "nonsense: 1}]"),
        ("match", "haproxys: [{name: a, match: {nonsense: 1}}]", ""),
        ("thresholds", "defaults: {thresholds: {nonsense: 1}}", ""),
        ("ignore", "defaults: {ignore: [{nonsense: 1}]}", ""),
        ("reserved", "defaults: {reserved_ports: [{nonsense: 1}]}", ""),
        ("reap", "defaults: {reap: {nonsense: 1}}", ""),
        ("metrics", "metrics: {nonsense: 1}", ""),
        ("backup", "backup: {nonsense: 1}", ""),
    ];
    let parts: BTreeSet<&str> =
        table.iter().map(|(part, ..)| *part).filter(|p| !p.is_empty()).collect();
    let defined: BTreeSet<&str> =
        schema["$defs"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(parts, defined);
    for (part, before, after) in table {
        let error = load(&format!("keys-{part}"), &format!("{before}{after}\n")).unwrap_err();
        let (_, expected) = error.split_once(", expected ").unwrap_or_else(|| panic!("{error}"));
        let known: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
        let object = if part.is_empty() { &schema } else { &schema["$defs"][part] };
        let described: BTreeSet<&str> =
            object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(described, known, "{part}: {error}");
    }
}

#[test]
fn the_defaults_are_those_of_the_program() {
    let schema = configuration();
    let defaults = |part: &str| {
        let keys = schema["$defs"][part]["properties"].as_object().unwrap();
        let given =
            keys.iter().filter_map(|(name, key)| Some((name.clone(), key.get("default")?.clone())));
        given.collect::<serde_json::Map<String, Value>>()
    };
    let mut rules = defaults("rules");
    rules.insert("thresholds".to_owned(), Value::Object(defaults("thresholds")));
    let written = json!({"defaults": rules, "metrics": defaults("metrics")});
    // JSON is YAML, too.
    let config = load("defaults", &written.to_string()).unwrap();
    assert_eq!(format!("{:?}", config.policy), format!("{:?}", Policy::default()));

    let written = json!({"defaults": {"reap": defaults("reap")}});
    let (own, none) = (
        load("reap", &written.to_string()).unwrap(),
        load("no-reap", "defaults: {reap: {}}\n").unwrap(),
    );
    assert!(none.policy.defaults.reap.is_some());
    assert_eq!(own.policy.defaults.reap, none.policy.defaults.reap);
}

/// The schema and the program agree on these.
#[test]
fn the_schema_judges_as_the_program_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let readme = read("README.md");
    let example = readme
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .find(|block| block.contains("\nhaproxys:"))
        .expect("the example of the README");
    let policy = read("deploy/policy/lbagent.yaml");
    let table: [(&str, bool); 16] = [
        (example, true),
        (&policy, true),
        ("defaults: {allowed_ports: [80, \"tcp/443\"]}", true),
        ("defaults: {allowed_ports: [0]}", false),
        ("defaults: {stale_grace: 1h 30m}", true),
        ("defaults: {stale_grace: soon}", false),
        ("defaults: {ignore: [{kind: port_imaginary}]}", false),
        ("defaults: {ignore: [{port: 70000}]}", false),
        ("defaults: {reap: {draining: never, half_closed: 12h}}", true),
        ("defaults: {reap: {listening: never}}", false),
        ("defaults: {reap: {last_signal: HUP}}", false),
        ("defaults: {reap: {max_share: 0%}}", false),
        ("defaults: {reap: {max_share: 101%}}", false),
        ("haproxys: [{match: {pidfile: /p}}]", false),
        ("haproxys: [{name: a, match: {pidfile: p}}]", false),
        ("backup: {directory: here}", false),
    ];
    let schema = configuration();
    for (number, (yaml, good)) in table.into_iter().enumerate() {
        let value: Value = serde_yaml::from_str(yaml).unwrap();
        let wrong = misfits(&schema, &value);
        assert_eq!(wrong.is_empty(), good, "{yaml}: {wrong:#?}");
        let loaded = load(&format!("judged-{number}"), yaml);
        assert_eq!(loaded.is_ok(), good, "{yaml}: {:?}", loaded.err());
    }
}
