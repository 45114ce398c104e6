//! The page for a person.

pub mod endpoints;
pub mod html;
pub mod landing;
