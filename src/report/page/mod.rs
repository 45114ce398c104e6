//! The page for a person.

mod anomalies;
mod endpoints;
pub mod landing;
mod times;
