//! Planning and killing on the simulated shop.

mod killing;
mod planning;
mod scene;
