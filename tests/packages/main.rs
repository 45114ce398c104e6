//! The packages: built by `deploy/package`, looked at by lintian and rpmlint, and installed, upgraded and removed in a
//! booted Debian by the commands of `docs/install.md`.
//!
//! They hold the program that cargo has just built for the tests, because a release takes minutes to build. The
//! Debian is that of `tests/systemd`, and so are its variables: `SYSTEMD_SUITE`, and `SYSTEMD_BINARY` for the program
//! that is packed. `PACKAGES` names a folder with packages that were built before, and the same tests look at these:
//!
//! ```sh
//! deploy/package all && PACKAGES=target/packages cargo test --test packages
//! ```
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss)] // seconds are few
#![allow(clippy::float_cmp)] // values on a page are small whole numbers

mod alerts;
mod build;
#[path = "../systemd/cgroup.rs"]
mod cgroup;
#[path = "../systemd/container.rs"]
mod container;
mod contents;
mod live;
#[path = "../systemd/machine.rs"]
#[allow(dead_code)] // the test of the units uses the rest
mod machine;
mod manual;
mod program;
mod recording;
mod red_hat;
#[path = "../support/mod.rs"]
mod support;
