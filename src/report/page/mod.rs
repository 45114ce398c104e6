//! The page for a person.

mod causes;
mod endpoints;
pub mod landing;
mod times;
