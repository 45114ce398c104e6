//! What `--output json` prints, as JSON schemas and as one page. `tests/support/schema.rs` holds every answer in
//! the tests against these schemas.

mod backup;
mod check;
mod inspect;
mod parts;
mod reap;

use serde_json::Value;
use std::fmt::Write as _;

use crate::form::type_of;
use crate::{code, head, hold, table};

const STABLE: &str = "The form is stable: keys may be added, and none is renamed or removed within one `version`. \
                      Times are unix seconds. null stands for what is not known or does not apply. A command that \
                      fails before it has an answer prints none; the error is on standard error.";

/// The schemas by the name of their file.
fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("inspect", inspect::inspect()),
        ("inspect-port", inspect::inspect_port()),
        ("check", check::check()),
        ("check-port", check::check_port()),
        ("reap", reap::reap()),
        ("reap-audit", reap::audit()),
        ("backup-create", backup::create()),
        ("backup-list", backup::listed()),
        ("backup-verify", backup::verify()),
        ("backup-diff", backup::diff()),
        ("backup-restore", backup::restore()),
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
        write!(page, "## {title}\n\n{about} Schema: [{name}.schema.json]({name}.schema.json).\n\n")
            .unwrap();
        page += &keys(title, &schema);
        for (part, definition) in schema["$defs"].as_object().into_iter().flatten() {
            write!(page, "### {title}: {part}\n\n").unwrap();
            page += &keys(title, definition);
        }
    }
    hold("json.md", &(page.trim_end().to_owned() + "\n"));
}

/// The keys of an object.
fn keys(title: &str, object: &Value) -> String {
    let required: Vec<&str> =
        object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows = object["properties"].as_object().unwrap().iter().map(|(name, key)| {
        // An anchor leads to the part of the same answer, or to another answer as a whole.
        let anchor = title.replace(' ', "-");
        let mut kind = type_of(key).replace("](#", &format!("](#{anchor}-"));
        for (other, _) in all() {
            let whole = format!("[{other}](#{anchor}-{other})");
            kind = kind.replace(&whole, &format!("[{other}](#{other})"));
        }
        let about = key["description"].as_str().unwrap();
        let sometimes = if required.contains(&name.as_str()) { "" } else { " Not in every entry." };
        vec![code(name), kind, format!("{about}{sometimes}")]
    });
    table(&["key", "type", "meaning"], rows) + "\n"
}
