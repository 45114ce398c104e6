//! Plans which stale processes to end, and ends them.
//!
//! `plan` is pure: two sights of the host, what was done before, and the policy go in; the steps that are
//! allowed and those that are held back come out. `guards` has every reason to leave a process alone,
//! `due` says what the policy asks for, `caps` limits how much is done. `execute` carries out one step,
//! and `store` keeps what must outlive a run.

pub mod audit;
mod caps;
mod due;
pub mod effect;
pub mod execute;
pub mod guards;
pub mod history;
pub mod plan;
pub mod sight;
pub mod state;
pub mod store;

pub use self::history::History;
pub use self::plan::{Plan, plan};
pub use self::sight::Sight;
