//! What a real Prometheus answers to every query of a board, as the board's reader would see it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::board::{Board, Choice, label_values, targets, title};
use super::fleet::Fleet;

/// Answers to all queries of one board with one choice of variables.
pub struct Answers {
    pub board: Board,
    json: Value,
}

/// A choice, from names and values.
pub fn choice(chosen: &[(&str, &str)]) -> Choice {
    chosen.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
}

/// Asks everything. Fails when an answer is an error or comes with a warning.
pub fn ask(fleet: &Fleet, board: &str, choice: &Choice) -> Answers {
    let board = Board::read(board);
    let times = fleet.times();
    let prometheus = &fleet.prometheus;

    let mut variables = BTreeMap::new();
    for (name, query) in board.variable_queries() {
        let (selector, label) = label_values(&query);
        let selector = board.expand(&selector, choice, &times);
        let values = prometheus.label_values(&selector, &label, &times);
        for value in choice.get(&name).into_iter().flatten() {
            assert!(values.contains(value), "{name} offers {values:?}, not {value}");
        }
        variables.insert(name, values);
    }
    let mut panels = BTreeMap::new();
    for panel in board.panels() {
        let answers: BTreeMap<String, Value> = targets(panel)
            .into_iter()
            .map(|target| {
                let expr = board.expand(&target.expr, choice, &times);
                let answer = if target.instant {
                    prometheus.instant(&expr, times.end)
                } else {
                    prometheus.range(&expr, &times)
                };
                (target.reference, answer)
            })
            .collect();
        panels.insert(panel["id"].to_string(), answers);
    }
    let mut annotations = BTreeMap::new();
    for annotation in board.annotations() {
        let expr = board.expand(annotation["target"]["expr"].as_str().unwrap(), choice, &times);
        annotations.insert(
            annotation["name"].as_str().unwrap().to_owned(),
            prometheus.range(&expr, &times),
        );
    }
    let json = json!({
        "start": times.start, "end": times.end, "step": times.step, "choice": choice,
        "variables": variables, "panels": panels, "annotations": annotations,
    });
    Answers { board, json }
}

impl Answers {
    pub fn write(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, self.json.to_string()).unwrap();
    }

    /// What a variable offers.
    pub fn offers(&self, variable: &str) -> Vec<&str> {
        self.json["variables"][variable]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect()
    }

    /// Series of an annotation.
    pub fn annotations(&self, name: &str) -> &[Value] {
        self.json["annotations"][name].as_array().unwrap()
    }

    /// Series that answer a query of a panel.
    #[track_caller]
    pub fn series(&self, panel: &str, reference: &str) -> &[Value] {
        let id = self.board.panel(panel)["id"].to_string();
        self.json["panels"][id][reference]
            .as_array()
            .unwrap_or_else(|| panic!("{panel} {reference}"))
    }

    /// The number a stat shows; `None` when it shows its empty text.
    #[track_caller]
    pub fn stat(&self, panel: &str) -> Option<f64> {
        let series = self.series(panel, "A");
        assert!(series.len() <= 1, "{panel}: {series:?}");
        series.first().map(last)
    }

    /// The last value of the series with these labels.
    #[track_caller]
    pub fn value(&self, panel: &str, reference: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found: Vec<&Value> =
            self.series(panel, reference).iter().filter(|series| has(series, labels)).collect();
        assert!(found.len() <= 1, "{panel} {reference} {labels:?}: {found:?}");
        found.first().map(|series| last(series))
    }

    /// Rows of the table of what is wrong, by kind: the labels of each.
    #[track_caller]
    pub fn wrong(&self, kind: &str) -> Vec<&Value> {
        let rows = self.series("What is wrong now", "A");
        rows.iter().map(|row| &row["metric"]).filter(|row| row["kind"] == kind).collect()
    }

    /// Queries of panels without an answer, and the text shown instead: `(panel, query, text)`.
    pub fn silent(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        for panel in self.board.panels() {
            for target in targets(panel) {
                if self.series(title(panel), &target.reference).is_empty() {
                    let instead =
                        panel["fieldConfig"]["defaults"]["noValue"].as_str().unwrap_or("No data");
                    found.push((title(panel).to_owned(), target.reference, instead.to_owned()));
                }
            }
        }
        found
    }
}

fn has(series: &Value, labels: &[(&str, &str)]) -> bool {
    labels.iter().all(|(name, value)| series["metric"][name] == *value)
}

/// The last value of a series, of a range or of one moment.
fn last(series: &Value) -> f64 {
    let point =
        series["value"].as_array().or_else(|| series["values"].as_array()?.last()?.as_array());
    point.unwrap()[1].as_str().unwrap().parse().unwrap()
}
