//! The dashboards: their form, and their numbers. No Grafana can be run here, so the tests do what Grafana
//! would do with a board: types are checked against Grafana's own, every query goes to a real Prometheus
//! that scraped the real exporter beside real `HAProxy`s, and the answers are drawn.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // values are counts

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod board;
mod fleet;
mod form;
mod numbers;
mod prometheus;
