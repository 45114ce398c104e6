//! A board as Grafana reads it: its panels, and its expressions with the variables filled in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The shipped boards, by the name of their file.
pub const BOARDS: [&str; 2] = ["fleet", "host"];

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What is chosen in the variables on top of a board; a variable that is not here is at All.
pub type Choice = BTreeMap<String, Vec<String>>;

pub struct Board {
    pub json: Value,
}

/// One query of a panel.
pub struct Target {
    pub reference: String,
    pub expr: String,
    pub instant: bool,
}

impl Board {
    pub fn read(name: &str) -> Self {
        let path = root().join("dashboards").join(format!("{name}.json"));
        let json = serde_json::from_str(&read(&path));
        Self { json: json.unwrap_or_else(|why| panic!("{}: {why}", path.display())) }
    }

    pub fn uid(&self) -> &str {
        self.json["uid"].as_str().unwrap()
    }

    /// Panels, those of collapsed rows too, without the rows themselves.
    pub fn panels(&self) -> Vec<&Value> {
        fn collect<'v>(panels: &'v Value, into: &mut Vec<&'v Value>) {
            for panel in panels.as_array().into_iter().flatten() {
                if panel["type"] == "row" {
                    collect(&panel["panels"], into);
                } else {
                    into.push(panel);
                }
            }
        }
        let mut found = Vec::new();
        collect(&self.json["panels"], &mut found);
        found
    }

    /// The one panel of this title.
    #[track_caller]
    pub fn panel(&self, title: &str) -> &Value {
        let found: Vec<&Value> =
            self.panels().into_iter().filter(|panel| panel["title"] == title).collect();
        assert_eq!(found.len(), 1, "panels called {title:?}");
        found[0]
    }

    pub fn variables(&self) -> Vec<&Value> {
        self.json["templating"]["list"].as_array().into_iter().flatten().collect()
    }

    pub fn annotations(&self) -> Vec<&Value> {
        let all = self.json["annotations"]["list"].as_array().into_iter().flatten();
        all.filter(|annotation| annotation["builtIn"] != 1).collect()
    }

    /// Every expression of the board, with its place in it.
    pub fn expressions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for panel in self.panels() {
            for target in targets(panel) {
                found.push((format!("{} {}", title(panel), target.reference), target.expr));
            }
        }
        for annotation in self.annotations() {
            let expr = annotation["target"]["expr"].as_str().unwrap();
            found.push((format!("annotation {}", annotation["name"]), expr.to_owned()));
        }
        for (name, query) in self.variable_queries() {
            let (selector, _) = label_values(&query);
            found.push((format!("variable {name}"), selector));
        }
        found.push(("variable runbooks".to_owned(), self.runbooks_query()));
        found
    }

    /// Queries of the variables that a reader of the board sees, by name, in the order in which they depend
    /// on one another.
    pub fn variable_queries(&self) -> Vec<(String, String)> {
        let queries = self.variables().into_iter().filter(|variable| variable["type"] == "query");
        queries
            .filter(|variable| variable["name"] != "runbooks")
            .map(|variable| {
                let query = variable["query"]["query"].as_str().unwrap();
                assert_eq!(variable["definition"], query, "{}", variable["name"]);
                (variable["name"].as_str().unwrap().to_owned(), query.to_owned())
            })
            .collect()
    }

    /// The expression whose answer has the address of an exporter, which serves the runbooks, in its label
    /// `runbooks`. The variable is hidden: no reader has to choose it.
    pub fn runbooks_query(&self) -> String {
        let all = self.variables();
        let variable = all.into_iter().find(|variable| variable["name"] == "runbooks").unwrap();
        assert_eq!(variable["hide"], 2);
        assert_eq!(variable["regex"], "/runbooks=\"([^\"]+)\"/");
        let query = variable["query"]["query"].as_str().unwrap();
        assert_eq!(variable["definition"], query);
        query
            .strip_prefix("query_result(")
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap()
            .to_owned()
    }

    /// An expression as Grafana sends it: variables by what is chosen, intervals by what the panel
    /// and the data source say.
    #[track_caller]
    pub fn expand(&self, expr: &str, choice: &Choice, times: &Times) -> String {
        let mut expr = expr
            .replace("$__rate_interval", &format!("{}s", times.rate_interval))
            .replace("$__range", &format!("{}s", times.end - times.start))
            .replace("$__interval", &format!("{}s", times.step));
        for variable in self.variables() {
            let name = variable["name"].as_str().unwrap();
            let value = match choice.get(name) {
                Some(values) if values.len() == 1 => escaped(&values[0]),
                Some(values) => {
                    let all: Vec<String> = values.iter().map(|value| escaped(value)).collect();
                    format!("({})", all.join("|"))
                }
                None => variable["allValue"].as_str().unwrap_or(".+").to_owned(),
            };
            expr = expr.replace(&format!("\"${name}\""), &format!("\"{value}\""));
            // Or none: what is of a host as a whole.
            expr = expr.replace(&format!("\"${name}|\""), &format!("\"{value}|\""));
        }
        let left =
            expr.split('$').skip(1).find(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
        assert!(left.is_none(), "an unknown variable is left in {expr}");
        expr
    }
}

/// The time range of a board and what follows from it, in seconds.
pub struct Times {
    pub start: u64,
    pub end: u64,
    pub step: u64,
    pub rate_interval: u64,
}

pub fn title(panel: &Value) -> &str {
    panel["title"].as_str().unwrap_or_default()
}

pub fn targets(panel: &Value) -> Vec<Target> {
    let all = panel["targets"].as_array().into_iter().flatten();
    all.map(|target| Target {
        reference: target["refId"].as_str().unwrap().to_owned(),
        expr: target["expr"].as_str().unwrap().to_owned(),
        instant: target["instant"] == true,
    })
    .collect()
}

/// `label_values(selector, label)` in its parts.
#[track_caller]
pub fn label_values(query: &str) -> (String, String) {
    let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    let (selector, label) = inner.unwrap_or_else(|| panic!("{query}")).rsplit_once(", ").unwrap();
    (selector.to_owned(), label.to_owned())
}

/// Every URL of a panel: its links, its fields' and its columns'.
pub fn links(panel: &Value) -> Vec<String> {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                into.extend(map.get("url").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| collect(value, into));
            }
            Value::Array(list) => list.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(panel, &mut found);
    found
}

/// The mapping of a column: text and color by value.
pub fn mapping<'v>(
    panel: &'v Value,
    column: &str,
) -> BTreeMap<&'v str, (&'v str, Option<&'v str>)> {
    let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
    let properties =
        overrides.iter().find(|o| o["matcher"]["options"] == column).unwrap()["properties"]
            .as_array()
            .unwrap();
    let mappings = &properties.iter().find(|property| property["id"] == "mappings").unwrap()["value"]
        [0]["options"];
    mappings
        .as_object()
        .unwrap()
        .iter()
        .map(|(value, to)| (value.as_str(), (to["text"].as_str().unwrap(), to["color"].as_str())))
        .collect()
}

/// As Grafana escapes a chosen value for a regular expression in a PromQL string.
fn escaped(value: &str) -> String {
    let mut result = String::new();
    for letter in value.chars() {
        match letter {
            '\\' => result.push_str("\\\\\\\\"),
            '$' | '^' | '*' | '{' | '}' | '[' | ']' | '\'' | '+' | '?' | '.' | '(' | ')' | '|' => {
                result.push_str("\\\\");
                result.push(letter);
            }
            letter => result.push(letter),
        }
    }
    result
}

/// Text of a file of the repository.
#[track_caller]
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}
