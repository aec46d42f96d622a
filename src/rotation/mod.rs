//! Rotation, thought through before anything is touched.

pub mod password;
