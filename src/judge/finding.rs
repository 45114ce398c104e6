//! What a rule finds.

use super::verdict::Subject;
use crate::model::{ProcessId, UnixSeconds};

/// The holder when it is a stale process of the same haproxy.
pub const STALE_HOLDER: &str = "haproxy stale";

/// Something a rule found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finding {
    /// Its labels.
    pub subject: Subject,
    /// Tells findings with equal labels apart: a process's identity.
    pub instance: String,
    /// Since when, where that can be proved; else it counts from when it was first seen.
    pub since: Option<UnixSeconds>,
    /// How long it must hold; `stale_grace` when absent.
    pub grace_seconds: Option<f64>,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do first.
    pub advice: String,
}

/// What a rule says of one haproxy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// What it found.
    pub findings: Vec<Finding>,
    /// It saw all it has to see, so finding nothing means there is nothing.
    pub complete: bool,
}

impl Judgement {
    /// A judgement of all there is.
    #[must_use]
    pub fn of(findings: Vec<Finding>) -> Judgement {
        Judgement { findings, complete: true }
    }

    /// What was found is so; what was not may be.
    #[must_use]
    pub fn if_known(complete: bool, findings: Vec<Finding>) -> Judgement {
        Judgement { findings, complete }
    }
}

/// Tells the findings of two processes apart.
#[must_use]
pub fn instance(id: ProcessId) -> String {
    format!("{}:{}", id.pid, id.start_ticks)
}
