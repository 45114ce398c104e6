//! The page for a person.

mod causes;
mod events;
pub mod filter;
pub mod landing;
mod order;
pub mod runbooks;
mod tables;
mod times;
