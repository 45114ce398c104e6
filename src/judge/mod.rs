//! Judges a sample: which services there are, which processes are current, and what is wrong.
//!
//! Pure: no clock, no log, no errors, no I/O. Time is a field of the sample. Since when something
//! has been wrong, the counters, and services that are gone live in the [`Memory`] that goes in and
//! comes out.

pub mod account;
pub mod case;
pub mod cases;
pub mod cause;
pub mod changes;
mod ending;
pub mod finding;
mod gone;
#[cfg(test)]
mod histories;
pub mod hold;
mod identify;
mod last_holders;
mod living;
mod loaded;
mod matching;
pub mod memory;
mod owners;
mod queues;
pub mod reload_count;
mod roster;
mod rules;
mod sharing;
mod subject;
pub mod verdict;

pub use self::cases::{Cases, FollowUps};
pub use self::memory::Memory;
