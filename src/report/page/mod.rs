//! The page for a person.

mod causes;
pub mod landing;
mod times;
