//! Turns findings into anomalies: pending until they have lasted for their grace and in two samples
//! running, then firing until they end.

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

/// What is remembered of an anomaly between samples.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomalyState {
    pub(super) since: UnixSeconds,
    /// The number of samples in a row that have shown it.
    samples: u32,
    /// The exporter's first sample showed it already, so its beginning was not observed.
    inherited: bool,
    /// It has lasted long enough; else it is pending.
    firing: bool,
}

/// The anomalies of one service that are pending or firing.
pub type AnomalyStates = BTreeMap<AnomalyKey, AnomalyState>;

/// The anomalies that follow from the findings of one sample.
#[derive(Debug, Default)]
pub struct Anomalies {
    /// All anomalies, pending ones included, by kind and subject.
    pub anomalies: Vec<Anomaly>,
    /// The states to remember for the next sample.
    pub states: AnomalyStates,
    /// How many began to fire in this sample, by kind.
    pub began: BTreeMap<Kind, u64>,
}

impl Anomalies {
    /// The anomalies that have begun since the exporter was started, by kind. `before` are those of the
    /// earlier samples.
    #[must_use]
    pub fn observed(&self, mut before: BTreeMap<Kind, u64>) -> BTreeMap<Kind, u64> {
        for (kind, began) in &self.began {
            *before.entry(*kind).or_default() += began;
        }
        before
    }
}

/// Compares findings with the states of the last sample.
///
/// A firing anomaly whose kind was not `judged` this time is kept: not seeing it does not resolve
/// it. When it is found again, it is still firing.
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
        let new = |since, inherited| AnomalyState { since, inherited, samples: 0, firing: false };
        let state = before.get(&key).cloned();
        let mut state = state.unwrap_or_else(|| new(finding.since.unwrap_or(now), first_sample));
        match finding.since {
            // The former anomaly has ended, and another one of the same key has begun.
            Some(proved) if proved > state.since + 1.0 => state = new(proved, false),
            Some(proved) => state.since = proved,
            None => {}
        }
        state.samples += 1;
        let grace = finding.grace_seconds.unwrap_or(grace_seconds);
        let is_due = state.samples >= 2 && now - state.since >= grace;
        if is_due && !state.firing {
            state.firing = true;
            if !state.inherited {
                *outcome.began.entry(kind).or_default() += 1;
            }
        }
        outcome.anomalies.push(Anomaly {
            kind,
            subject: finding.subject,
            target: finding.target,
            since: state.since,
            // Once it fires it fires until it ends, even if its grace becomes longer.
            pending: !state.firing,
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

    /// Whether the finding is pending in each of the samples taken at these times, and how many began.
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
    fn an_anomaly_fires_after_its_grace_and_two_samples() {
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
    fn an_anomaly_of_the_first_sample_does_not_count_as_begun() {
        assert_eq!(pending(None, &[100.0, 120.0]).1, 0);
        let fresh = hold(finding(None), &judged(), &AnomalyStates::new(), false, GRACE, 100.0);
        let outcome = hold(finding(None), &judged(), &fresh.states, false, GRACE, 120.0);
        assert_eq!(outcome.began.get(&Kind::ProcessIdle), Some(&1));
        let again = hold(finding(None), &judged(), &outcome.states, false, GRACE, 130.0);
        assert_eq!(again.began.get(&Kind::ProcessIdle), None);
    }

    #[test]
    fn an_interruption_starts_the_grace_again() {
        let first = hold(finding(None), &judged(), &AnomalyStates::new(), false, GRACE, 100.0);
        let gone = hold(Vec::new(), &judged(), &first.states, false, GRACE, 105.0);
        let back = hold(finding(None), &judged(), &gone.states, false, GRACE, 130.0);
        assert!(back.anomalies[0].pending);
        assert!((back.anomalies[0].since - 130.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_firing_anomaly_outlasts_a_sample_that_could_not_judge_its_kind() {
        let back_after = |last_seen: f64, judged_then: &BTreeSet<Kind>| {
            let first = hold(finding(None), &judged(), &AnomalyStates::new(), false, GRACE, 100.0);
            let outcome = hold(finding(None), &judged(), &first.states, false, GRACE, last_seen);
            let unseen = hold(Vec::new(), judged_then, &outcome.states, false, GRACE, 125.0);
            assert!(unseen.anomalies.is_empty() && unseen.began.is_empty());
            let back = hold(finding(None), &judged(), &unseen.states, false, GRACE, 130.0);
            (back.anomalies[0].pending, back.began.len())
        };
        let nothing = BTreeSet::new();
        assert_eq!(back_after(120.0, &nothing), (false, 0), "still firing");
        assert_eq!(back_after(120.0, &judged()), (true, 0), "it was resolved");
        assert_eq!(back_after(105.0, &nothing), (true, 0), "a pending one starts again");
    }
}
