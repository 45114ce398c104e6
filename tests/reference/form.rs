//! The words in which a JSON schema is written here.

use serde_json::{Map, Value, json};

pub fn string() -> Value {
    json!({"type": "string"})
}

pub fn integer() -> Value {
    json!({"type": "integer"})
}

pub fn number() -> Value {
    json!({"type": "number"})
}

pub fn boolean() -> Value {
    json!({"type": "boolean"})
}

/// A time in unix seconds.
pub fn time() -> Value {
    number()
}

pub fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Value {
    json!({"enum": names.into_iter().collect::<Vec<_>>()})
}

pub fn list(of: Value) -> Value {
    let mut list = json!({"type": "array"});
    list["items"] = of;
    list
}

/// A definition of the same schema.
pub fn part(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// The whole answer that another schema of the same folder describes.
pub fn document(name: &str) -> Value {
    json!({"$ref": format!("{name}.schema.json")})
}

/// The same, or `null`, which stands for what is not known or does not apply.
pub fn nullable(schema: Value) -> Value {
    let options = vec![schema, json!({"type": "null"})];
    json!({"anyOf": Value::Array(options)})
}

/// A key that is not in every object.
pub struct Key {
    name: &'static str,
    schema: Value,
    about: &'static str,
    always: bool,
}

pub fn key(name: &'static str, schema: Value, about: &'static str) -> Key {
    Key { name, schema, about, always: true }
}

pub fn sometimes(name: &'static str, schema: Value, about: &'static str) -> Key {
    Key { name, schema, about, always: false }
}

/// An object with these keys.
pub fn object(keys: Vec<Key>) -> Value {
    let required: Vec<&str> = keys.iter().filter(|key| key.always).map(|key| key.name).collect();
    let mut properties = Map::new();
    for key in keys {
        let mut schema = key.schema;
        schema["description"] = json!(key.about);
        properties.insert(key.name.to_owned(), schema);
    }
    let mut object = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// A whole schema.
pub fn schema(title: &str, about: &str, root: Value, definitions: Vec<(&str, Value)>) -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": about,
    });
    let Value::Object(root) = root else { panic!("{root} is no object") };
    schema.as_object_mut().unwrap().extend(root);
    let definitions: Map<String, Value> =
        definitions.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    schema
}

/// The type of a schema, in words.
pub fn type_of(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.trim_start_matches("#/$defs/").trim_end_matches(".schema.json");
        return format!("[{name}](#{name})");
    }
    if let Some(parts) = schema["anyOf"].as_array() {
        return parts.iter().map(type_of).collect::<Vec<_>>().join(" or ");
    }
    if let Some(names) = schema["enum"].as_array() {
        let names: Vec<String> =
            names.iter().map(|name| format!("`{}`", name.as_str().unwrap())).collect();
        return names.join(", ");
    }
    match schema["type"].as_str().unwrap() {
        "array" => format!("list of {}", type_of(&schema["items"])),
        other => other.to_owned(),
    }
}
