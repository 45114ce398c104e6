//! From finding to anomaly: it must have held for its grace and in two samples running.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::verdict::{Anomaly, Subject};
use crate::model::UnixSeconds;
use crate::policy::kind::Kind;

/// What makes a finding the same as one of the last sample.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnomalyKey {
    kind: Kind,
    subject: Subject,
    instance: String,
}

/// A finding that stands.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomalyState {
    since: UnixSeconds,
    samples: u32,
    /// It stood in the exporter's first sample, so nobody saw it begin.
    inherited: bool,
    firing: bool,
}

/// Everything that stands for one haproxy.
pub type AnomalyStates = BTreeMap<AnomalyKey, AnomalyState>;

/// What came of a sample's findings.
#[derive(Debug, Default)]
pub struct Anomalies {
    /// Anomalies, pending ones included.
    pub anomalies: Vec<Anomaly>,
    /// What to remember.
    pub states: AnomalyStates,
    /// How many began, by kind.
    pub began: BTreeMap<Kind, u64>,
}

/// Weighs findings against what stood before. What has fired and is of no kind that was `judged` has
/// not been seen to end: it goes on when it is found again.
#[must_use]
pub fn hold(
    findings: Vec<(Kind, Finding)>,
    judged: &BTreeSet<Kind>,
    before: &AnomalyStates,
    first_sample: bool,
    grace_seconds: f64,
    now: UnixSeconds,
) -> Anomalies {
    let mut outcome = Anomalies::default();
    let unseen = before.iter().filter(|(key, state)| state.firing && !judged.contains(&key.kind));
    outcome.states.extend(unseen.map(|(key, state)| (key.clone(), state.clone())));
    for (kind, finding) in findings {
        let key = AnomalyKey {
            kind,
            subject: finding.subject.clone(),
            instance: finding.instance.clone(),
        };
        let mut state = before.get(&key).cloned().unwrap_or(AnomalyState {
            since: finding.since.unwrap_or(now),
            samples: 0,
            inherited: first_sample,
            firing: false,
        });
        match finding.since {
            // What stood is over, and the like of it has begun.
            Some(proved) if proved > state.since + 1.0 => {
                state = AnomalyState { since: proved, samples: 0, inherited: false, firing: false };
            }
            Some(proved) => state.since = proved,
            None => {}
        }
        state.samples += 1;
        let grace = finding.grace_seconds.unwrap_or(grace_seconds);
        let pending = state.samples < 2 || now - state.since < grace;
        if !pending && !state.firing {
            state.firing = true;
            if !state.inherited {
                *outcome.began.entry(kind).or_default() += 1;
            }
        }
        outcome.anomalies.push(Anomaly {
            kind,
            subject: finding.subject,
            since: state.since,
            // What has fired goes on until it ends, whatever its grace becomes.
            pending: pending && !state.firing,
            evidence: finding.evidence,
            advice: finding.advice,
        });
        outcome.states.insert(key, state);
    }
    outcome.anomalies.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: f64 = 10.0;

    fn finding(since: Option<f64>) -> Vec<(Kind, Finding)> {
        vec![(Kind::ProcessIdle, Finding { since, ..Finding::default() })]
    }

    fn judged() -> BTreeSet<Kind> {
        BTreeSet::from([Kind::ProcessIdle])
    }

    /// Runs samples at the given times and tells for each whether the finding is pending.
    fn pending(since: Option<f64>, times: &[f64]) -> (Vec<bool>, u64) {
        let mut states = AnomalyStates::new();
        let mut began = 0;
        let mut answers = Vec::new();
        for (index, &now) in times.iter().enumerate() {
            let outcome = hold(finding(since), &judged(), &states, index == 0, GRACE, now);
            answers.push(outcome.anomalies[0].pending);
            began += outcome.began.values().sum::<u64>();
            states = outcome.states;
        }
        (answers, began)
    }

    #[test]
    fn it_takes_the_grace_and_two_samples() {
        let table: [(Option<f64>, &[f64], &[bool]); 4] = [
            (None, &[100.0, 105.0, 109.9, 110.0], &[true, true, true, false]),
            (None, &[100.0, 200.0], &[true, false]),
            (Some(50.0), &[100.0, 101.0], &[true, false]), // proved time counts
            (Some(95.0), &[100.0, 104.9, 105.0], &[true, true, false]),
        ];
        for (since, times, expected) in table {
            assert_eq!(pending(since, times).0, expected, "{since:?} {times:?}");
        }
    }

    #[test]
    fn what_stood_in_the_first_sample_did_not_begin() {
        assert_eq!(pending(None, &[100.0, 120.0]).1, 0);
        let fresh = hold(finding(None), &judged(), &AnomalyStates::new(), false, GRACE, 100.0);
        let outcome = hold(finding(None), &judged(), &fresh.states, false, GRACE, 120.0);
        assert_eq!(outcome.began.get(&Kind::ProcessIdle), Some(&1));
        let again = hold(finding(None), &judged(), &outcome.states, false, GRACE, 130.0);
        assert_eq!(again.began.get(&Kind::ProcessIdle), None);
    }

    #[test]
    fn an_interruption_starts_it_anew() {
        let first = hold(finding(None), &judged(), &AnomalyStates::new(), false, GRACE, 100.0);
        let gone = hold(Vec::new(), &judged(), &first.states, false, GRACE, 105.0);
        let back = hold(finding(None), &judged(), &gone.states, false, GRACE, 130.0);
        assert!(back.anomalies[0].pending);
        assert!((back.anomalies[0].since - 130.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_fired_does_not_end_by_not_being_seen() {
        let back_after = |last_seen: f64, judged_then: &BTreeSet<Kind>| {
            let first = hold(finding(None), &judged(), &AnomalyStates::new(), false, GRACE, 100.0);
            let outcome = hold(finding(None), &judged(), &first.states, false, GRACE, last_seen);
            let unseen = hold(Vec::new(), judged_then, &outcome.states, false, GRACE, 125.0);
            assert!(unseen.anomalies.is_empty() && unseen.began.is_empty());
            let back = hold(finding(None), &judged(), &unseen.states, false, GRACE, 130.0);
            (back.anomalies[0].pending, back.began.len())
        };
        let nothing = BTreeSet::new();
        assert_eq!(back_after(120.0, &nothing), (false, 0), "it goes on");
        assert_eq!(back_after(120.0, &judged()), (true, 0), "it ended");
        assert_eq!(back_after(105.0, &nothing), (true, 0), "it was pending");
    }
}
