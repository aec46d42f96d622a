//! What tests share: the lab ([`lab`]), a real database ([`postgres`]), a proxy that loses replies ([`proxy`]), doubles of a cloud
//! account (`doubles`) with a proxy of their own before them ([`aws`]), somebody who types our commands (`responder`), and a user at a
//! shell (`user`).
//!
//! Each file in `tests/` is a program of its own and uses its part of this; the rest would be reported as dead code.
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};

pub use aws_fault_proxy as aws;

pub mod books;
#[cfg(feature = "adapters")]
pub mod doubles;
pub mod lab;
pub mod postgres;
pub mod proxy;
#[cfg(feature = "adapters")]
pub mod responder;
#[cfg(feature = "adapters")]
pub mod user;

/// A folder of one test's own, in the build's folder for such things. It may hold what an earlier run left.
pub fn own_folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).expect("the build's folder can be written");
    folder
}
