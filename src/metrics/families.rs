//! Gathers samples by metric, each label set once, and encodes them.

use std::collections::{BTreeMap, BTreeSet};

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

/// Samples by metric.
#[derive(Debug, Default)]
pub struct Families {
    samples: BTreeMap<&'static str, Vec<Metric>>,
    seen: BTreeSet<(&'static str, Vec<String>)>,
    dropped: BTreeMap<&'static str, usize>,
}

impl Families {
    /// Adds a sample; of equal label sets the first stands.
    pub fn add(&mut self, row: &'static Row, labels: &[&str], value: f64) {
        debug_assert_eq!(row.labels.len(), labels.len(), "{}", row.name);
        let values = labels.iter().map(|&label| label.to_owned()).collect();
        if !self.seen.insert((row.name, values)) {
            return;
        }
        let pairs = row.labels.iter().zip(labels).map(|(&name, &value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        if row.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.samples.entry(row.name).or_default().push(metric);
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
    pub fn encode(mut self) -> String {
        let mut families = Vec::new();
        for row in row::ALL {
            let Some(metrics) = self.samples.remove(row.name) else { continue };
            let mut family = MetricFamily::default();
            family.set_name(row.name.to_owned());
            family.set_help(row.help.to_owned());
            family.set_field_type(row.kind);
            family.set_metric(metrics);
            families.push(family);
        }
        TextEncoder::new()
            .encode_to_string(&families)
            .expect("families have names and samples, and a string takes all writes")
    }
}
