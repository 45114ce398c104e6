//! Judges a sample: which haproxys there are, what is current, and what is wrong.
//!
//! Pure: no clock, no log, no errors, no I/O. Time is a field of the sample; since-when,
//! counters and what is gone live in the [`Memory`] that goes in and comes out.

pub mod case;
pub mod cases;
mod gone;
pub mod hold;
mod identify;
mod living;
pub mod memory;
mod queues;
pub mod reload_count;
mod rules;
pub mod verdict;

pub use self::cases::{Inquiry, Questions};
pub use self::memory::Memory;
pub use self::reload_count::Reloads;
pub use crate::policy::Policy;
