//! Gathers samples by metric, each label set once, and encodes them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

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
/// used again, with the text of all its labels.
#[derive(Debug, Default)]
pub struct Families {
    families: HashMap<&'static str, Family>,
    dropped: BTreeMap<&'static str, usize>,
}

/// The samples of one metric.
#[derive(Debug, Default)]
struct Family {
    metrics: Vec<Metric>,
    /// The series of the last time that have not been used again, in their order.
    before: VecDeque<Metric>,
    /// The samples by a hash of their labels: made when they first differ from the last time, for
    /// until then they are as distinct as those were.
    places: Option<HashMap<u64, usize>>,
    /// Its part of the last page, and whether that has become another since.
    text: String,
    changed: bool,
}

impl Family {
    fn begin(&mut self) {
        self.before = self.metrics.drain(..).collect();
        self.places = None;
        self.changed = false;
    }

    /// `None`: there is a sample with these labels.
    fn metric(&mut self, row: &Row, labels: &[&str]) -> Option<Metric> {
        if self.places.is_none() && self.before.front().is_some_and(|next| has_labels(next, labels))
        {
            return self.before.pop_front();
        }
        let metrics = &self.metrics;
        let places = self.places.get_or_insert_with(|| {
            let values = metrics.iter().map(|metric| metric.get_label().iter());
            let hashes = values.map(|pairs| hash(pairs.map(LabelPair::value)));
            hashes.zip(0..).collect()
        });
        let hash = hash(labels.iter().copied());
        let known = places.get(&hash).and_then(|&place| metrics.get(place));
        if known.is_some_and(|known| has_labels(known, labels)) {
            return None;
        }
        places.insert(hash, metrics.len());
        // Series have come or gone: usually a few.
        let near = self.before.iter().take(NEAR).position(|metric| has_labels(metric, labels));
        let same = near.and_then(|place| self.before.drain(..=place).next_back());
        Some(same.unwrap_or_else(|| labelled(row, labels)))
    }

    fn encode(&mut self, row: &Row) {
        self.text.clear();
        self.before.clear();
        if self.metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(row.name.to_owned());
        family.set_help(row.help.to_owned());
        family.set_field_type(row.kind);
        family.set_metric(std::mem::take(&mut self.metrics));
        TextEncoder::new()
            .encode_utf8(std::slice::from_ref(&family), &mut self.text)
            .expect("a family has a name and samples, and a string takes all writes");
        self.metrics = family.take_metric();
    }
}

impl Families {
    /// Begins a page.
    pub fn begin(&mut self) {
        self.dropped.clear();
        self.families.values_mut().for_each(Family::begin);
    }

    /// Adds a sample; of equal label sets the first stands.
    pub fn add(&mut self, row: &'static Row, labels: &[&str], value: f64) {
        debug_assert_eq!(row.labels.len(), labels.len(), "{}", row.name);
        let family = self.families.entry(row.name).or_default();
        let Some(mut metric) = family.metric(row, labels) else { return };
        let before = set_value(&mut metric, row.kind, value);
        family.changed |= family.places.is_some() || before.to_bits() != value.to_bits();
        family.metrics.push(metric);
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
    pub fn encode(&mut self) -> String {
        let mut page = String::new();
        for row in row::ALL {
            let Some(kept) = self.families.get_mut(row.name) else { continue };
            if kept.changed || !kept.before.is_empty() {
                kept.encode(row);
            }
            page.push_str(&kept.text);
        }
        page
    }
}

/// Answers the value it had.
fn set_value(metric: &mut Metric, kind: MetricType, value: f64) -> f64 {
    if kind == MetricType::COUNTER {
        let before = metric.get_counter().get_value();
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
        before
    } else {
        let before = metric.get_gauge().get_value();
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
        before
    }
}

fn hash<'a>(labels: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.for_each(|label| label.hash(&mut hasher));
    hasher.finish()
}

/// Two label sets may have the same hash.
fn has_labels(metric: &Metric, labels: &[&str]) -> bool {
    metric.get_label().iter().map(LabelPair::value).eq(labels.iter().copied())
}

fn labelled(row: &Row, labels: &[&str]) -> Metric {
    let pairs = row.labels.iter().zip(labels).map(|(&name, &value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
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
