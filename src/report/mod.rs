//! Reports for people and programs: `inspect`, `check`, the page for a person.

pub mod allocation;
pub mod candidate;
pub mod candidate_text;
pub mod causes;
mod changes;
pub mod events;
pub mod expired;
pub mod hold;
mod json;
pub mod marks;
pub mod page;
pub mod port;
mod ranges;
pub mod reap;
pub mod runbooks;
pub mod table;
pub mod text;

pub use self::json::{inspect_json, state_json};
use crate::judge::verdict::Verdict;
use crate::policy::Policy;
use crate::policy::kind::Severity;

/// Whether `inspect` should fail.
///
/// An anomaly of severity info never makes it fail. A pending one does, unless the serving generation
/// is so young that its reload may still be settling.
#[must_use]
pub fn has_anomalies(verdict: &Verdict, policy: &Policy) -> bool {
    verdict.services.iter().any(|haproxy| {
        let grace = policy.rules(&haproxy.name).stale_grace_seconds;
        let settling =
            haproxy.generation_start.is_some_and(|started| verdict.taken - started < grace);
        haproxy.anomalies.iter().any(|anomaly| {
            anomaly.kind.severity() != Severity::Info && !(anomaly.pending && settling)
        })
    })
}
