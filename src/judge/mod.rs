//! Judges a sample: which haproxys there are, what is current, and what is wrong.
//!
//! Pure: no clock, no log, no errors, no I/O. Time is a field of the sample; since-when,
//! counters and what is gone live in the [`Memory`] that goes in and comes out.

mod blocked;
mod configs;
mod gone;
pub mod hold;
mod identify;
mod inquiry;
mod living;
pub mod memory;
pub mod policy;
mod ports;
mod processes;
mod queues;
mod reloads;
mod rules;
mod scene;
pub mod verdict;
mod why;

pub use self::inquiry::{Inquiry, Questions};
pub use self::memory::Memory;
pub use self::policy::Policy;
pub use self::reloads::Reloads;
