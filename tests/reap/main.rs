//! `reap` beside real HAProxys: what it ends, what it leaves alone, and what it says of both.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]

#[path = "../support/mod.rs"]
mod support;

mod accidents;
mod left_alone;
mod piles;
mod reaper;
mod records;
mod steps;
