//! The page for a person.

mod endpoints;
pub mod landing;
mod times;
