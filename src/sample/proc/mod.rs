//! Reads /proc.

pub mod descriptors;
pub mod dir;
pub mod own;
pub mod status;
