//! The exporter beside the real `HAProxy`s: every expectation is read off the scraped page.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod staging;
