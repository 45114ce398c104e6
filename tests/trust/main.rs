//! What the processes of another user can do to the exporter beside root's `HAProxy`s: nothing but add
//! series of their own. `SECURITY.md` names these tests.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp, clippy::cast_precision_loss)] // values on a page are small whole numbers

#[path = "../systemd/cgroup.rs"]
#[allow(dead_code)]
mod cgroup;
#[path = "../support/mod.rs"]
mod support;

mod caps;
mod churn;
mod claims;
mod named;
mod other_user;
mod secrets;
mod series;
