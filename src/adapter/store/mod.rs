//! Durable files of this host: one folder as a [`crate::port::Store`], and the places where firebreak keeps things.

mod dir_store;
mod places;

pub use dir_store::DirStore;
pub use places::{Places, PlacesError};
