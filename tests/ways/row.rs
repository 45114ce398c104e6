//! One row of the table: how services are started and reloaded, and what that leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use crate::host::Host;
use crate::support::Version;

/// One way to run HAProxy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The way, in words.
    pub way: String,
    /// Shell lines that prepare the row's directory.
    #[serde(default)]
    pub setup: String,
    /// The services, in the order of their starts.
    pub services: Vec<Service>,
    /// Shell lines that reload the first service. `$OLD` is the pid that answers, `$MASTER` its parent.
    #[serde(default)]
    pub reload: String,
    /// The reload changes the process that answers for the first service.
    #[serde(default = "yes")]
    pub replaces: bool,
    /// The process that served is stopped by the reload: it holds its listener and answers nothing.
    #[serde(default)]
    pub frozen: bool,
    /// A client holds a connection of the first service over the reload.
    #[serde(default = "yes")]
    pub hold: bool,
    /// Services, by index, that no longer serve after the reload.
    #[serde(default)]
    pub down: Vec<usize>,
    /// States a stale process of the row may be in after the reload, instead of draining.
    #[serde(default)]
    pub stale: Vec<String>,
    /// Kinds of anomaly that the row's services must have after the reload.
    #[serde(default)]
    pub anomalies: Vec<String>,
    /// Kinds of anomaly that they may have besides, at any time.
    #[serde(default)]
    pub tolerated: Vec<String>,
    /// Text of what the exporter cannot read of this way.
    #[serde(default)]
    pub unreadable: Vec<String>,
    /// The oldest version that can do this.
    #[serde(default)]
    pub from: Option<String>,
    /// The newest version that can do this.
    #[serde(default)]
    pub until: Option<String>,
    /// Versions whose build lacks what the way needs.
    #[serde(default)]
    pub except: Vec<String>,
    /// An entry of the exporter's `haproxys`, in YAML; `@D` is the row's directory.
    #[serde(default)]
    pub configured: Option<String>,
}

/// One service of a row.
#[derive(Debug, Deserialize)]
#[serde(from = "Written")]
pub struct Service {
    /// Shell lines that start it.
    pub start: String,
    /// A shell line that prints the pid of the process that answers, as that process numbers itself.
    pub ask: Option<String>,
    /// A command prefix that enters the network in which it listens.
    pub via: String,
    /// The name that every view must give it.
    pub name: Option<String>,
    /// It cannot be asked: its process is stopped, or it takes no connections.
    pub silent: bool,
    /// Its parent is no master of it, though it executes the same file.
    pub alone: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Line(String),
    Whole {
        start: String,
        #[serde(default)]
        ask: Option<String>,
        #[serde(default)]
        via: String,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        silent: bool,
        #[serde(default)]
        alone: bool,
    },
}

impl From<Written> for Service {
    fn from(written: Written) -> Self {
        match written {
            Written::Line(start) => {
                let (via, silent, alone) = (String::new(), false, false);
                Self { start, ask: None, via, name: None, silent, alone }
            }
            Written::Whole { start, ask, via, name, silent, alone } => {
                Self { start, ask, via, name, silent, alone }
            }
        }
    }
}

fn yes() -> bool {
    true
}

impl Row {
    fn is_for(&self, version: Version) -> bool {
        let number = version.name();
        self.from.as_deref().is_none_or(|from| number >= from)
            && self.until.as_deref().is_none_or(|until| number <= until)
            && !self.except.iter().any(|except| except == number)
    }
}

/// The rows that this version can do, from every file of `table/`.
pub fn table(version: Version) -> Vec<Row> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ways/table");
    let directory = std::env::var("WAYS_TABLE").map_or(directory, PathBuf::from);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let wanted = std::env::var("WAYS").unwrap_or_default();
    let mut rows = Vec::new();
    let mut lines = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let read: Vec<Row> = serde_yaml::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for row in read {
            let twice = lines.insert(row.way.clone(), file.clone());
            assert!(twice.is_none(), "two rows are called {:?}", row.way);
            rows.push(row);
        }
    }
    rows.retain(|row| row.is_for(version) && row.way.contains(&wanted));
    assert!(!rows.is_empty(), "no way is called {wanted:?}");
    rows
}

/// The configuration of the exporters: that of the tests, with the rows' own entries.
pub fn configuration(rows: &[Row], host: &Host) -> String {
    let entries: Vec<String> = rows
        .iter()
        .enumerate()
        .filter_map(|(index, row)| Some((index, row.configured.as_ref()?)))
        .map(|(index, entry)| {
            format!("  - {}\n", entry.replace("@D", &host.directory(index).display().to_string()))
        })
        .collect();
    let list =
        if entries.is_empty() { String::new() } else { format!("haproxys:\n{}", entries.concat()) };
    format!("defaults: {{stale_grace: 1s}}\n{list}")
}
