//! Gathers samples by metric, each label set once, and encodes them.
//!
//! The text of a series is encoded once and kept from page to page; only values are written anew.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};

use prometheus::TextEncoder;
use prometheus::proto::{LabelPair, Metric, MetricFamily};

use super::catalogue::{self as row, Row};

/// Metrics with a series for each port or anomaly.
pub const CAPPED: [&Row; 6] = [
    &row::PORT_INFO,
    &row::LISTEN_QUEUE_LENGTH,
    &row::LISTEN_QUEUE_LIMIT,
    &row::LISTEN_DROPS,
    &row::ANOMALY_INFO,
    &row::ANOMALY_START,
];

/// So far ahead a series of the last page is looked for, when it is not the next one.
const NEAR: usize = 8;

/// Samples by metric. It can be filled again and again: a series that was there the last time is
/// used again, with its text.
#[derive(Debug, Default)]
pub struct Families {
    by_name: HashMap<&'static str, Family>,
    dropped: BTreeMap<&'static str, usize>,
    /// Keyed at random, so that nobody can name things to have the same hash.
    hashing: RandomState,
}

/// The samples of one metric.
#[derive(Debug, Default)]
struct Family {
    series: Vec<Series>,
    /// The series of the last time that have not been used again, in their order.
    before: VecDeque<Series>,
    /// Hashes of the series: gathered when they first differ from the last time, for until then
    /// they are as distinct as those were.
    seen: Option<HashSet<u64>>,
    /// The lines HELP and TYPE.
    heading: String,
}

/// One label set and its value.
#[derive(Debug)]
struct Series {
    /// Of the label values.
    hash: u64,
    /// Its line, up to the value.
    line: Box<str>,
    value: f64,
}

impl Family {
    fn begin(&mut self) {
        self.before.clear();
        self.before.extend(self.series.drain(..));
        self.seen = None;
    }

    fn add(&mut self, row: &Row, labels: &[&str], hash: u64, value: f64) {
        let series = if self.seen.is_none() && self.before.front().is_some_and(|s| s.hash == hash) {
            self.before.pop_front()
        } else {
            let series = &self.series;
            let seen = self.seen.get_or_insert_with(|| series.iter().map(|s| s.hash).collect());
            if !seen.insert(hash) {
                return; // of equal label sets the first stands
            }
            // Series have come or gone: usually a few.
            let near = self.before.iter().take(NEAR).position(|series| series.hash == hash);
            near.and_then(|place| self.before.drain(..=place).next_back())
        };
        let line = match series {
            Some(series) => series.line,
            None => self.encode(row, labels),
        };
        self.series.push(Series { hash, line, value });
    }

    /// The line of a new series, up to its value.
    fn encode(&mut self, row: &Row, labels: &[&str]) -> Box<str> {
        let pairs = row.labels.iter().zip(labels).map(|(&name, &value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut family = MetricFamily::default();
        family.set_name(row.name.to_owned());
        family.set_help(row.help.to_owned());
        family.set_field_type(row.kind);
        family.set_metric(vec![Metric::from_label(pairs.collect())]);
        let text = TextEncoder::new()
            .encode_to_string(&[family])
            .expect("a family has a name and a sample, and a string takes all writes");
        // HELP, TYPE, and `name{labels} 0`.
        let line_at = text.trim_end().rfind('\n').map_or(0, |end| end + 1);
        let (heading, line) = text.split_at(line_at);
        if self.heading.is_empty() {
            heading.clone_into(&mut self.heading);
        }
        line.trim_end().trim_end_matches('0').into()
    }
}

impl Families {
    /// Begins a page.
    pub fn begin(&mut self) {
        self.dropped.clear();
        self.by_name.values_mut().for_each(Family::begin);
    }

    /// Adds a sample; of equal label sets the first stands.
    pub fn add(&mut self, row: &'static Row, labels: &[&str], value: f64) {
        debug_assert_eq!(row.labels.len(), labels.len(), "{}", row.name);
        let hash = self.hashing.hash_one(labels);
        self.by_name.entry(row.name).or_default().add(row, labels, hash, value);
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
    pub fn encode(&self) -> String {
        let families = || {
            let known = row::ALL.iter().filter_map(|row| self.by_name.get(row.name));
            known.filter(|family| !family.series.is_empty())
        };
        let length = |family: &Family| {
            // Most values are short numbers.
            let lines = family.series.iter().map(|series| series.line.len() + 8);
            family.heading.len() + lines.sum::<usize>()
        };
        let mut page = String::with_capacity(families().map(length).sum());
        for family in families() {
            page.push_str(&family.heading);
            for Series { line, value, .. } in &family.series {
                writeln!(page, "{line}{value}").expect("a string takes all writes");
            }
        }
        page
    }
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
            families.encode()
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
