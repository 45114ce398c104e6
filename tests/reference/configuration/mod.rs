//! The exporter's own configuration: a schema for editors, and the page that is made from it. The keys of the schema
//! are those that the program itself names when it meets an unknown one, and its defaults are the program's.

mod keys;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use haproxy_host_exporter::config::Config;
use haproxy_host_exporter::policy::Policy;
use serde_json::{Value, json};

use self::keys::configuration;
use crate::form::type_of;
use crate::support::schema::misfits;
use crate::{code, head, hold, table};

const NAME: &str = "configuration.schema.json";

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
        write!(page, "## {name}\n\n").unwrap();
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
fn load(yaml: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.yaml");
    fs::write(&path, yaml).unwrap();
    Config::load(&path).map_err(|error| error.to_string())
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
        let error = load(&format!("{before}{after}\n")).unwrap_err();
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
    let config = load(&written.to_string()).unwrap();
    assert_eq!(format!("{:?}", config.policy), format!("{:?}", Policy::default()));

    let written = json!({"defaults": {"reap": defaults("reap")}});
    let (own, none) =
        (load(&written.to_string()).unwrap(), load("defaults: {reap: {}}\n").unwrap());
    assert!(none.policy.defaults.reap.is_some());
    assert_eq!(own.policy.defaults.reap, none.policy.defaults.reap);
}

/// What the shipped file shows is the default, apart from what has no default and is an example.
#[test]
fn the_shipped_configuration_shows_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/config.yaml");
    let shipped = fs::read_to_string(path).unwrap();
    let loaded = load(&shipped).unwrap().policy;
    assert_eq!(format!("{loaded:?}"), format!("{:?}", Policy::default()), "all of it is comments");
    // The first paragraph, and lines that begin with `# `, are prose.
    let (_, keys) = shipped.split_once("\n\n").unwrap();
    let uncommented = |line: &str| {
        let is_prose = line.strip_prefix("# ").is_some_and(|rest| !rest.starts_with(' '));
        (if is_prose { line } else { line.strip_prefix('#').unwrap_or(line) }).to_owned()
    };
    let open: Vec<String> = keys.lines().map(uncommented).collect();
    let open = open.join("\n");
    load(&open).unwrap();
    let mut defaults = serde_yaml::from_str::<Value>(&open).unwrap()["defaults"].clone();
    let keys = defaults.as_object_mut().unwrap();
    for example in ["allowed_ports", "reserved_ports"] {
        assert!(keys.remove(example).is_some(), "{example}");
    }
    let reap = keys.remove("reap").unwrap();
    let policy = |defaults: Value| load(&json!({"defaults": defaults}).to_string()).unwrap().policy;
    assert_eq!(format!("{:?}", policy(defaults)), format!("{:?}", Policy::default()));
    let with_reap = |reap: Value| policy(json!({"reap": reap})).defaults.reap;
    assert_eq!(with_reap(reap), with_reap(json!({})));
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
    for (yaml, good) in table {
        let value: Value = serde_yaml::from_str(yaml).unwrap();
        let wrong = misfits(&schema, &value);
        assert_eq!(wrong.is_empty(), good, "{yaml}: {wrong:#?}");
        let loaded = load(yaml);
        assert_eq!(loaded.is_ok(), good, "{yaml}: {:?}", loaded.err());
    }
}
