//! `backup`: what HAProxy reads is kept, proved and restored, on real HAProxys and real file systems.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod metrics;
mod proof;
mod rare;
mod restore;
mod round_trip;
mod secrets;
mod site;
mod trust;
mod upgrade;
