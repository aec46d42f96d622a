//! Durable files of this host: one folder as a [`crate::port::Store`] or as [`crate::port::Leases`], and the places where firebreak keeps
//! things.

mod dir_store;
mod folder_leases;
mod places;

pub use dir_store::DirStore;
pub use folder_leases::FolderLeases;
pub use places::{Places, PlacesError};
