//! The truth about a host: which processes answer, as they themselves say.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::Bed;

/// What every view is compared with.
#[derive(Debug, PartialEq)]
pub struct Truth {
    pub rows: Vec<RowTruth>,
}

impl Truth {
    /// Rows that are not the same in the other truth.
    pub fn changed<'t>(&'t self, other: &'t Self) -> impl Iterator<Item = &'t RowTruth> {
        self.rows.iter().filter(|row| !other.rows.contains(row))
    }

    /// Only the rows that are the same in the other truth.
    pub fn unchanged(mut self, other: &Self) -> Self {
        self.rows.retain(|row| other.rows.contains(row));
        self
    }
}

/// The truth about the services of one row.
#[derive(Debug, PartialEq)]
pub struct RowTruth {
    pub way: String,
    pub services: Vec<ServiceTruth>,
    /// Kinds of anomaly that the row must have now.
    pub required: BTreeSet<String>,
    /// Kinds that it may have besides.
    pub tolerated: BTreeSet<String>,
    /// Text of what no exporter could read of it.
    pub unreadable: Vec<String>,
}

/// The truth about one service.
#[derive(Debug, PartialEq)]
pub struct ServiceTruth {
    /// The name that it must have, where the row gives one.
    pub name: Option<String>,
    /// The process that answers now.
    pub serving: Option<i32>,
    /// It was told to stop and does not answer any more.
    pub down: bool,
    /// Masters that live: of the process that answers, or only of earlier ones (false).
    pub masters: BTreeMap<i32, bool>,
    /// Processes that answered once and still live, each with the states it may be in.
    pub old: BTreeMap<i32, Vec<String>>,
}

/// A process of the bed.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// Its pid in its own pid namespace.
    pub own_pid: i32,
    /// `ROW.SERVICE`, from its environment.
    pub marker: String,
    /// What it executes.
    pub program: String,
}

/// Every living process of the bed that a row has started.
pub fn processes(bed: &Bed) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(bed.procfs()).unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        found.extend(process(bed, pid));
    }
    found
}

fn process(bed: &Bed, pid: i32) -> Option<Process> {
    let environment = bed.process_file(pid, "environ")?;
    let marker = environment.split('\0').find_map(|entry| entry.strip_prefix("WAY="))?.to_owned();
    let status = bed.process_file(pid, "status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    if field("State:")?.trim().starts_with('Z') {
        return None;
    }
    let link = std::fs::read_link(bed.procfs().join(pid.to_string()).join("exe")).ok()?;
    Some(Process {
        pid,
        parent: field("PPid:")?.trim().parse().ok()?,
        own_pid: field("NSpid:")?.split_whitespace().last()?.parse().ok()?,
        marker,
        program: link.display().to_string(),
    })
}

/// The process that numbers itself `own_pid`. Two containers of one row may use the same number, so a
/// service is looked for among its own processes; one that another service has started (`adopted`)
/// carries that one's marker.
pub fn find(
    processes: &[Process],
    row: usize,
    service: usize,
    adopted: bool,
    own_pid: i32,
) -> Option<&Process> {
    let marker = if adopted { format!("{row}.") } else { format!("{row}.{service}") };
    processes.iter().find(|process| {
        let own = process.marker == marker || adopted && process.marker.starts_with(&marker);
        own && process.own_pid == own_pid
    })
}

/// The master of a process: its parent, when both execute the same file.
pub fn master<'p>(processes: &'p [Process], process: &Process) -> Option<&'p Process> {
    processes
        .iter()
        .find(|parent| parent.pid == process.parent && parent.program == process.program)
}
