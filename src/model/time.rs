//! The one way a moment is written: seconds since the Unix epoch.

/// A moment, in seconds since the Unix epoch.
pub type UnixSeconds = f64;
