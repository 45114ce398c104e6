//! Holds answers in JSON against the schemas of `docs/reference`: the keywords that these schemas use. The test of a
//! schema is stricter than the schema: a key that it does not describe is an error here.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The answer fits the schema of this name.
///
/// # Panics
/// When it does not, with the path of what is wrong.
#[track_caller]
pub fn assert_fits(name: &str, answer: &Value) {
    let wrong = misfits(&read(name), answer);
    assert!(wrong.is_empty(), "{name}.schema.json: {wrong:#?}\n{answer:#}");
}

/// What a run of the exporter printed fits the schema of its command, if the arguments ask for JSON. A command that
/// failed before it had an answer printed nothing.
#[track_caller]
pub fn assert_printed(arguments: &[&str], printed: &[u8]) {
    let asks_for_json = arguments.windows(2).any(|pair| pair == ["--output", "json"]);
    if !asks_for_json || printed.is_empty() {
        return;
    }
    let answer = serde_json::from_slice(printed)
        .unwrap_or_else(|why| panic!("{arguments:?}: {why}\n{}", String::from_utf8_lossy(printed)));
    assert_fits(&name(arguments), &answer);
}

/// The name of the schema for the answer of a command.
fn name(arguments: &[&str]) -> String {
    let has = |flag: &str| arguments.contains(&flag);
    match arguments {
        ["backup", command, ..] => format!("backup-{command}"),
        ["inspect", ..] if has("--port") => "inspect-port".to_owned(),
        ["check", ..] if has("--port") || has("--free") => "check-port".to_owned(),
        [command, ..] => (*command).to_owned(),
        [] => panic!("no command"),
    }
}

/// The schema of this name.
pub fn read(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let path = folder.join(format!("{name}.schema.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// What of the answer does not fit the schema.
pub fn misfits(schema: &Value, answer: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    Reader { root: schema }.compare(schema, answer, "$", &mut wrong);
    wrong
}

struct Reader<'s> {
    root: &'s Value,
}

impl Reader<'_> {
    fn compare(&self, schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
        for keyword in schema.as_object().expect("a schema").keys() {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{path}: no support for {keyword}");
        }
        if let Some(reference) = schema["$ref"].as_str() {
            if let Some(other) = reference.strip_suffix(".schema.json") {
                let schema = read(other);
                Reader { root: &schema }.compare(&schema, value, path, wrong);
            } else {
                let name = reference.strip_prefix("#/$defs/").expect("a definition of this schema");
                let definition = &self.root["$defs"][name];
                assert!(definition.is_object(), "{path}: no definition {name}");
                self.compare(definition, value, path, wrong);
            }
        }
        if let Some(options) = schema["anyOf"].as_array() {
            let tried: Vec<Vec<String>> = options
                .iter()
                .map(|option| {
                    let mut wrong = Vec::new();
                    self.compare(option, value, path, &mut wrong);
                    wrong
                })
                .collect();
            if !tried.iter().any(Vec::is_empty) {
                wrong.extend(tried.into_iter().next().unwrap_or_default());
            }
        }
        if let Some(kind) = schema["type"].as_str()
            && !is_of(kind, value)
        {
            wrong.push(format!("{path}: {value} is no {kind}"));
        }
        if let Some(names) = schema["enum"].as_array()
            && !names.contains(value)
        {
            wrong.push(format!("{path}: {value} is none of {}", schema["enum"]));
        }
        if let Some(wanted) = schema.get("const")
            && wanted != value
        {
            wrong.push(format!("{path}: {value} is not {wanted}"));
        }
        if let Some(least) = schema["minimum"].as_f64()
            && value.as_f64().is_some_and(|value| value < least)
        {
            wrong.push(format!("{path}: {value} is less than {least}"));
        }
        if let Some(most) = schema["maximum"].as_f64()
            && value.as_f64().is_some_and(|value| value > most)
        {
            wrong.push(format!("{path}: {value} is more than {most}"));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && value
                .as_str()
                .is_some_and(|text| !regex::Regex::new(pattern).unwrap().is_match(text))
        {
            wrong.push(format!("{path}: {value} does not match {pattern}"));
        }
        if let Some(items) = schema.get("items") {
            for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                self.compare(items, item, &format!("{path}[{place}]"), wrong);
            }
        }
        self.compare_keys(schema, value, path, wrong);
    }

    fn compare_keys(&self, schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
        let (Some(described), Some(found)) = (schema["properties"].as_object(), value.as_object())
        else {
            return;
        };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !found.contains_key(name) {
                wrong.push(format!("{path}: no {name}"));
            }
        }
        for (name, value) in found {
            match described.get(name) {
                Some(schema) => self.compare(schema, value, &format!("{path}.{name}"), wrong),
                None => wrong.push(format!("{path}: {name} is not described")),
            }
        }
    }
}

/// The keywords that are read here, and those that say nothing of the answer.
const KEYWORDS: [&str; 19] = [
    "$ref",
    "anyOf",
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "pattern",
    "items",
    "properties",
    "required",
    "additionalProperties",
    "minProperties",
    "$schema",
    "$defs",
    "title",
    "description",
    "default",
    "examples",
];

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no type {other}"),
    }
}
