//! Judges a sample: which haproxys there are, what is current, and what is wrong.
//!
//! Pure: no clock, no log, no errors, no I/O. Time is a field of the sample; since-when,
//! counters and what is gone live in the [`Memory`] that goes in and comes out.

pub mod case;
pub mod cases;
pub mod finding;
mod gone;
pub mod hold;
mod identify;
mod living;
pub mod memory;
mod owners;
mod queues;
pub mod reload_count;
mod rules;
pub mod verdict;

pub use self::cases::{Cases, FollowUps};
pub use self::memory::Memory;
