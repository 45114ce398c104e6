//! The exporter and what is shipped beside it in real Prometheus, and behind it real Alertmanager.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // values on a page are small whole numbers

#[path = "../support/mod.rs"]
mod support;

mod chain;
mod faster;
mod founding;
mod notifications;
mod receiver;
mod scrape;
