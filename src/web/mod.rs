//! The HTTP server: its paths, who may ask for them, and how long a client may take.
//!
//! | path | answer |
//! |---|---|
//! | `--web.telemetry-path` (`/metrics`) | the page of the last sample; 503 before the first |
//! | `/` | a page for a person |
//! | `/state.json` | the last sample as `inspect --output json` prints it; 503 before the first |
//! | `/-/healthy` | 200 while the program runs; needs no credentials |
//! | `/-/ready` | 200 once there is a sample, 503 when samples have stopped coming; needs no credentials |
//! | `POST /-/reload` | reads the configuration again, with `--web.enable-lifecycle` |
//!
//! A request never waits for a sample and never makes one slower.

mod admission;
mod body;
mod connection;
mod error;
mod gate;
mod lifecycle;
mod listen;
mod page;
mod rate_limit;
mod routes;
mod server;
pub mod toolkit;

pub use error::Error;
pub use lifecycle::{Reloaded, notify_systemd};
pub use listen::{bind, take_from_systemd};
pub use page::{LastPage, Page, Settings};
pub use server::serve;
pub use toolkit::security::Security;
