//! Takes samples of the host. Only this module and its children read `/proc` and the kernel's
//! socket tables.

pub mod budget;
pub mod clock;
pub mod discovery;
pub mod files;
pub mod headroom;
mod last_sample;
mod movers;
pub mod network;
pub mod on_demand;
mod ownership;
pub mod paths;
pub mod proc;
mod sampler;

pub use self::discovery::processes::Discovery;
pub use self::files::configurations::Source;
pub use self::sampler::{Error, Paths, Sampler};
