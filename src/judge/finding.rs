//! What a rule answers.

use super::subject::{PortKey, Subject, Target};
use crate::model::{ProcessId, UnixSeconds};

/// Something that a rule found wrong in this sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finding {
    /// What it is about: the labels of the anomaly.
    pub subject: Subject,
    /// What the advice acts on.
    pub target: Target,
    /// Distinguishes findings with equal labels, for example by the process's identity.
    pub instance: String,
    /// Since when it has been wrong, where that can be proved; else it counts from its first sample.
    pub since: Option<UnixSeconds>,
    /// How long it must hold before it fires; `None` means `stale_grace`.
    pub grace_seconds: Option<f64>,
    /// The facts that were seen, one in each line.
    pub evidence: Vec<String>,
    /// The first thing to do.
    pub advice: String,
}

impl Finding {
    /// A finding about a port, on which the service itself has to act.
    #[must_use]
    pub fn of_port(port: PortKey, evidence: Vec<String>, advice: String) -> Finding {
        let subject = Subject { port: Some(port), ..Subject::default() };
        Finding { subject, evidence, advice, ..Finding::default() }
    }
}

/// The answer of one rule about one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// Everything that it found.
    pub findings: Vec<Finding>,
    /// The rule saw all that it needs, so finding nothing means that nothing is wrong.
    pub complete: bool,
}

impl Judgement {
    /// The answer of a rule that saw all that it needs.
    #[must_use]
    pub fn of(findings: Vec<Finding>) -> Judgement {
        Judgement { findings, complete: true }
    }

    /// The answer of a rule that may have missed something: what it found is certain, and finding
    /// nothing means something only if `complete`.
    #[must_use]
    pub fn if_known(complete: bool, findings: Vec<Finding>) -> Judgement {
        Judgement { findings, complete }
    }
}

/// The [`Finding::instance`] of a finding about one process.
#[must_use]
pub fn instance(id: ProcessId) -> String {
    format!("{}:{}", id.pid, id.start_ticks)
}
