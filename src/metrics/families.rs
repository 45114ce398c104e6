//! Gathers samples by metric, each label set once, and encodes them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash, RandomState};

use bytes::Bytes;

use super::catalogue::{self as row, Row};
use super::family::Family;

/// Metrics with a series for each port or anomaly.
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
    /// The text of each metric; shared with the last page where it is the same.
    pub metrics: Vec<Bytes>,
}

impl Exposition {
    /// The whole page.
    #[must_use]
    pub fn text(&self) -> String {
        self.metrics.iter().map(|text| String::from_utf8_lossy(text)).collect()
    }
}

/// Samples by metric. It can be filled again and again: a series that was there the last time is
/// used again, with its text.
#[derive(Debug, Default)]
pub struct Families {
    by_name: HashMap<&'static str, Family>,
    dropped: BTreeMap<&'static str, usize>,
    /// Keyed at random, so that nobody can name things to have the same hash.
    hashing: RandomState,
}

impl Families {
    /// Begins a page.
    pub fn begin(&mut self) {
        self.dropped.clear();
        self.by_name.values_mut().for_each(Family::begin);
    }

    /// Adds a sample; of equal label sets the first stands.
    pub fn add(&mut self, row: &'static Row, labels: &[&str], value: f64) {
        let identity = self.identity(labels);
        self.add_identified(row, [(identity, value)], |_| labels.to_vec());
    }

    /// What stands for labels that are made of this, and of nothing else.
    pub fn identity(&self, of: impl Hash) -> u64 {
        self.hashing.hash_one(of)
    }

    /// Adds many samples of a metric: the identity and value of each. Labels are made, of the
    /// sample's place among them, only where there was no such series the last time.
    pub fn add_identified<L: AsRef<str>>(
        &mut self,
        row: &'static Row,
        samples: impl IntoIterator<Item = (u64, f64)>,
        labels: impl Fn(usize) -> Vec<L>,
    ) {
        let family = self.by_name.entry(row.name).or_default();
        for (place, (identity, value)) in samples.into_iter().enumerate() {
            family.add(row, identity, || labels(place), value);
        }
    }

    /// Adds a sample if its value is known.
    pub fn add_known(&mut self, row: &'static Row, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.add(row, labels, value);
        }
    }

    /// Counts series that the cap leaves out.
    pub fn drop_series(&mut self, row: &'static Row, count: usize) {
        *self.dropped.entry(row.name).or_default() += count;
    }

    /// How many series of a metric were left out.
    #[must_use]
    pub fn dropped(&self, row: &Row) -> usize {
        self.dropped.get(row.name).copied().unwrap_or(0)
    }

    /// The page, in the order of the catalogue.
    #[must_use]
    pub fn encode(&mut self) -> Exposition {
        let mut metrics = Vec::new();
        for row in row::ALL {
            let text = self.by_name.get_mut(row.name).map(Family::encode).unwrap_or_default();
            if !text.is_empty() {
                metrics.push(text);
            }
        }
        Exposition { metrics }
    }
}

/// A whole number as a sample's value: samples of the text format are 64-bit floats.
#[allow(clippy::cast_precision_loss)]
pub fn number(value: u64) -> f64 {
    value as f64
}

/// A count as a sample's value.
pub fn count(value: usize) -> f64 {
    number(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_same_whatever_was_on_the_last() {
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
        assert!(last.contains("} 0"), "the first stands: {last}");
    }
}
