//! A metrics page, read strictly: what a lenient reader would swallow is a fault here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One line of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.labels.get(*name).is_some_and(|found| found == value))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{}{{{}}} {}", self.name, labels.join(","), self.value)
    }
}

/// What one scrape gave.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub samples: Vec<Sample>,
    pub types: BTreeMap<String, String>,
}

impl Page {
    /// Reads the text exposition format.
    ///
    /// # Errors
    /// The first line that a careful writer would not have written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut page = Self::default();
        let mut helped = BTreeSet::new();
        let mut seen = BTreeSet::new();
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for line in text.lines() {
            page.line(line, &mut helped).map_err(|why| format!("{why}: {line}"))?;
        }
        for sample in &page.samples {
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(format!("series twice: {sample}"));
            }
        }
        Ok(page)
    }

    fn line(&mut self, line: &str, helped: &mut BTreeSet<String>) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("no help")?;
            if help.trim().is_empty() || !helped.insert(name.to_owned()) {
                return Err("empty or repeated help".to_owned());
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            if !helped.contains(name)
                || !matches!(kind, "gauge" | "counter" | "histogram" | "summary")
            {
                return Err("no help before the type, or an unknown type".to_owned());
            }
            if self.types.insert(name.to_owned(), kind.to_owned()).is_some() {
                return Err("repeated type".to_owned());
            }
        } else {
            let sample = sample(line)?;
            let kind = self.types.get(&sample.name).ok_or("no type before the sample")?;
            if (kind == "counter") != sample.name.ends_with("_total") {
                return Err("_total is the ending of counters, and of them alone".to_owned());
            }
            if self.samples.last().is_some_and(|last| last.name != sample.name)
                && self.samples.iter().any(|earlier| earlier.name == sample.name)
            {
                return Err("samples of one metric apart".to_owned());
            }
            self.samples.push(sample);
        }
        Ok(())
    }

    /// Every sample of that name with at least these labels.
    pub fn all<'p>(
        &'p self,
        name: &'p str,
        labels: &'p [(&str, &str)],
    ) -> impl Iterator<Item = &'p Sample> {
        self.samples.iter().filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The value of the one sample with at least these labels; `None` when there is none.
    ///
    /// # Panics
    /// When there are several.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found: Vec<&Sample> = self.all(name, labels).collect();
        assert!(found.len() <= 1, "{} samples of {name}{labels:?}", found.len());
        found.first().map(|sample| sample.value)
    }

    /// Is there exactly one such sample, with this value?
    pub fn is(&self, name: &str, labels: &[(&str, &str)], value: f64) -> bool {
        let mut found = self.all(name, labels);
        found.next().is_some_and(|sample| same(sample.value, value)) && found.next().is_none()
    }

    /// Sum over every sample with at least these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).map(|sample| sample.value).sum()
    }

    /// The values a label has over all samples of a metric.
    pub fn label_values(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.all(name, &[]).map(|sample| sample.label(label).to_owned()).collect()
    }

    /// The names of the `HAProxy`s on the page, also of those of which it is not known whether they are up.
    pub fn haproxys(&self) -> BTreeSet<String> {
        self.label_values("haproxy_host_info", "haproxy")
    }

    /// The kinds of anomaly on the page now, over all `HAProxy`s.
    pub fn anomalies(&self) -> BTreeSet<String> {
        self.all("haproxy_host_anomalies", &[])
            .filter(|sample| sample.value > 0.0)
            .map(|sample| sample.label("kind").to_owned())
            .collect()
    }

    /// Are these the kinds of anomaly on the page, and no others?
    pub fn anomalies_are(&self, kinds: &[&str]) -> bool {
        let kinds: BTreeSet<&str> = kinds.iter().copied().collect();
        self.anomalies().iter().map(String::as_str).eq(kinds)
    }

    /// Stale processes in a state.
    pub fn stale(&self, state: &str) -> f64 {
        self.sum("haproxy_host_stale_processes", &[("state", state)])
    }

    /// The lines that matter to a reader of a failed test.
    pub fn brief(&self) -> String {
        let lines: Vec<String> = self
            .samples
            .iter()
            .filter(|sample| {
                sample.name.starts_with("haproxy_host_") || OWN.contains(&sample.name.as_str())
            })
            .filter(|sample| sample.value != 0.0 || !sample.labels.contains_key("kind"))
            .filter(|sample| {
                !sample.name.contains("threshold") && !sample.name.contains("duration")
            })
            .map(Sample::to_string)
            .collect();
        lines.join("\n")
    }
}

/// What the exporter says of itself that a test awaits.
const OWN: [&str; 2] = ["process_open_fds", "process_threads"];

/// What seldom helps to understand a failed test.
const DULL: [&str; 8] = [
    "_threshold",
    "_duration_seconds",
    "_bytes",
    "_available",
    "_fds",
    "_allowed_ports",
    "_queue_limit",
    "_build_info",
];

/// Counts and sizes are whole numbers, so near enough is equal.
fn same(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-9
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty()
        || !name.chars().all(letters)
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err("not a metric name".to_owned());
    }
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, tail) = rest.split_once("=\"").ok_or("label without value")?;
            let (value, tail) = quoted(tail)?;
            if labels.insert(label.trim_start_matches(',').to_owned(), value).is_some() {
                return Err(format!("label {label} twice"));
            }
            rest = tail;
        }
        rest = rest.trim_start_matches('}');
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let value = value.parse().map_err(|_| format!("not a value: {value}"))?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => return Err("unknown escape".to_owned()),
            },
            _ => value.push(letter),
        }
    }
    Err("label value without end".to_owned())
}
