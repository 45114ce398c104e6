//! Gathers samples by metric, each label set once, and encodes them.

use std::collections::{BTreeMap, HashMap};
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

/// Samples by metric. It can be filled again and again: a series that was there the last time is
/// used again, with the text of all its labels.
#[derive(Debug, Default)]
pub struct Families {
    families: HashMap<&'static str, Family>,
    dropped: BTreeMap<&'static str, usize>,
}

/// The samples of one metric, found by a hash of their label values.
#[derive(Debug, Default)]
struct Family {
    metrics: Vec<Metric>,
    places: HashMap<u64, usize>,
    /// Those of the last time that were not used again yet.
    before: HashMap<u64, Metric>,
}

impl Families {
    /// Begins a page.
    pub fn begin(&mut self) {
        self.dropped.clear();
        for family in self.families.values_mut() {
            let mut metrics: Vec<_> = family.metrics.drain(..).map(Some).collect();
            let place = |(hash, place): (u64, usize)| Some((hash, metrics.get_mut(place)?.take()?));
            family.before = family.places.drain().filter_map(place).collect();
        }
    }

    /// Adds a sample; of equal label sets the first stands.
    pub fn add(&mut self, row: &'static Row, labels: &[&str], value: f64) {
        debug_assert_eq!(row.labels.len(), labels.len(), "{}", row.name);
        let family = self.families.entry(row.name).or_default();
        let hash = hash(labels);
        let known = family.places.get(&hash).and_then(|&place| family.metrics.get(place));
        if known.is_some_and(|known| has_labels(known, labels)) {
            return;
        }
        let before = family.before.remove(&hash).filter(|metric| has_labels(metric, labels));
        let mut metric = before.unwrap_or_else(|| labelled(row, labels));
        if row.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        family.places.insert(hash, family.metrics.len());
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
            kept.before = HashMap::new();
            if kept.metrics.is_empty() {
                continue;
            }
            let mut family = MetricFamily::default();
            family.set_name(row.name.to_owned());
            family.set_help(row.help.to_owned());
            family.set_field_type(row.kind);
            family.set_metric(std::mem::take(&mut kept.metrics));
            TextEncoder::new()
                .encode_utf8(std::slice::from_ref(&family), &mut page)
                .expect("a family has a name and samples, and a string takes all writes");
            kept.metrics = family.take_metric();
        }
        page
    }
}

fn hash(labels: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
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
        let pages: [&[(&str, f64)]; 4] =
            [&[("a", 1.0), ("b", 0.0)], &[("b", 1.0)], &[], &[("b", 0.0), ("a", 0.0), ("b", 7.0)]];
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
