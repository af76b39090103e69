//! Values: typed where they were made, bytes where they travel, and the memory that they travel in.

pub(crate) mod lists;
pub(crate) mod parts;
pub mod segment;
pub mod size;
pub(crate) mod type_names;
pub mod value;
