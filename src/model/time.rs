//! The type of a moment.

/// A moment, in seconds since the Unix epoch.
pub type UnixSeconds = f64;
