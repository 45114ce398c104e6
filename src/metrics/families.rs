//! Gathers samples by metric, each set of labels once, and encodes them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash, RandomState};

use bytes::Bytes;

use super::catalogue::{self as row, Row};
use super::family::Family;

/// The metrics with one series for each port or anomaly, which `max_port_series` limits.
pub const CAPPED: [&Row; 6] = [
    &row::PORT_INFO,
    &row::LISTEN_QUEUE_LENGTH,
    &row::LISTEN_QUEUE_LIMIT,
    &row::LISTEN_DROPS,
    &row::ANOMALY_INFO,
    &row::ANOMALY_START,
];

/// A page in Prometheus' text format 0.0.4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposition {
    /// The text of each metric. An unchanged text is shared with the page before.
    pub metrics: Vec<Bytes>,
}

impl Exposition {
    /// Leaves metrics out.
    #[must_use]
    pub fn without(mut self, rows: &[&Row]) -> Exposition {
        let heads: Vec<String> = rows.iter().map(|row| format!("# HELP {} ", row.name)).collect();
        self.metrics.retain(|text| !heads.iter().any(|head| text.starts_with(head.as_bytes())));
        self
    }

    /// Returns the whole page as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.metrics.iter().map(|text| String::from_utf8_lossy(text)).collect()
    }
}

/// Samples by metric, refilled for each page. A series of the page before is reused with its text.
#[derive(Debug, Default)]
pub struct Families {
    by_name: HashMap<&'static str, Family>,
    dropped: BTreeMap<&'static str, usize>,
    /// The series of this page.
    len: usize,
    /// While series are only counted: how many there are of each metric.
    counted: Option<BTreeMap<&'static str, usize>>,
    /// Keyed at random, so that no user can choose names whose hashes collide.
    hashing: RandomState,
}

impl Families {
    /// Begins a new page.
    pub fn begin(&mut self) {
        self.dropped.clear();
        self.len = 0;
        self.by_name.values_mut().for_each(Family::begin);
    }

    /// Returns how many series the page has so far. One that was added twice counts twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns how many series `add` would add.
    pub fn count(&mut self, add: impl FnOnce(&mut Self)) -> usize {
        self.counted = Some(BTreeMap::new());
        add(self);
        self.counted.take().unwrap_or_default().values().sum()
    }

    /// Counts the series that `add` would add as left out.
    pub fn drop_all(&mut self, add: impl FnOnce(&mut Self)) {
        self.counted = Some(BTreeMap::new());
        add(self);
        for (name, count) in self.counted.take().unwrap_or_default() {
            *self.dropped.entry(name).or_default() += count;
        }
    }

    /// Adds a sample. Of samples with equal labels the first one counts.
    pub fn add(&mut self, row: &'static Row, labels: &[&str], value: f64) {
        if let Some(counted) = &mut self.counted {
            *counted.entry(row.name).or_default() += 1;
            return;
        }
        let identity = self.identity(labels);
        self.add_identified(row, [(identity, value)], |_| labels.to_vec());
    }

    /// Returns the identity of a set of labels that is a function of `of`.
    pub fn identity(&self, of: impl Hash) -> u64 {
        self.hashing.hash_one(of)
    }

    /// Adds many samples of a metric, given as identities and values. `labels` makes the labels of
    /// the sample at an index, and is called only for series that the page before did not have.
    pub fn add_identified<L: AsRef<str>>(
        &mut self,
        row: &'static Row,
        samples: impl IntoIterator<Item = (u64, f64)>,
        labels: impl Fn(usize) -> Vec<L>,
    ) {
        let family = self.by_name.entry(row.name).or_default();
        for (place, (identity, value)) in samples.into_iter().enumerate() {
            self.len += 1;
            family.add(row, identity, || labels(place), value);
        }
    }

    /// Adds a sample if its value is known; an unknown value has no series.
    pub fn add_known(&mut self, row: &'static Row, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.add(row, labels, value);
        }
    }

    /// Counts series that a limit leaves out.
    pub fn drop_series(&mut self, row: &'static Row, count: usize) {
        *self.dropped.entry(row.name).or_default() += count;
    }

    /// Returns how many series of a metric were left out.
    #[must_use]
    pub fn dropped(&self, row: &Row) -> usize {
        self.dropped.get(row.name).copied().unwrap_or(0)
    }

    /// Returns the metrics of which series were left out, with their number, and those that are capped
    /// for each service, be it with 0.
    pub fn all_dropped(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let all = row::ALL.iter().map(|row| (row.name, self.dropped(row)));
        let is_capped = |name| CAPPED.iter().any(|capped| capped.name == name);
        all.filter(move |&(name, dropped)| dropped > 0 || is_capped(name))
    }

    /// Encodes the page, in the order of the catalogue.
    #[must_use]
    pub fn encode(&mut self) -> Exposition {
        let texts =
            row::ALL.iter().filter_map(|row| Some(self.by_name.get_mut(row.name)?.encode()));
        Exposition { metrics: texts.filter(|text| !text.is_empty()).collect() }
    }
}

/// Converts a whole number to the value of a sample, which is a 64-bit float.
#[allow(clippy::cast_precision_loss)]
pub fn number(value: u64) -> f64 {
    value as f64
}

/// Converts a count to the value of a sample.
pub fn count(value: usize) -> f64 {
    number(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_page_equals_a_new_one() {
        let row = &row::UP;
        let pages: [&[(&str, f64)]; 7] = [
            &[("a", 1.0), ("b", 0.0)],
            &[("a", 1.0), ("b", 0.0)],
            &[("a", 1.0), ("b", 1.0)],
            &[("a", 1.0)],
            &[],
            &[("b", 0.0), ("a", 0.0), ("b", 7.0)],
            &[("c", 0.0), ("b", 0.0), ("a", 0.0)],
        ];
        let fill = |families: &mut Families, page: &[(&str, f64)]| {
            families.begin();
            for (name, value) in page {
                families.add(row, &[name, "discovered"], *value);
            }
            families.encode().text()
        };
        let mut kept = Families::default();
        for page in pages {
            assert_eq!(fill(&mut kept, page), fill(&mut Families::default(), page));
        }
        let last = fill(&mut kept, &[("b", 0.0), ("b", 7.0)]);
        assert_eq!(last.matches("haproxy=\"b\"").count(), 1, "{last}");
        assert!(last.contains("} 0"), "the first one counts: {last}");
    }
}
