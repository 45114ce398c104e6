//! The exporter beside the real `HAProxy`s: every expectation is read off the scraped page.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp, clippy::cast_precision_loss)] // values on a page are small whole numbers

#[path = "../support/mod.rs"]
mod support;

mod configs;
mod containers;
mod datagrams;
mod gate;
mod generations;
mod incidents;
mod namespaces;
mod ordinary_day;
mod pages;
mod ports;
mod processes;
mod reloads;
mod rights;
mod sources;

use support::proxies;
