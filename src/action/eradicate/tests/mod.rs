//! Planning and killing on the simulated shop.

mod planning;
mod scene;
