//! The firebreak evidence bag and ledger, format v1: writer and verifier.
//!
//! This crate is small on purpose: an opposing expert can read and build it alone. It has no network, no async, no
//! clock and no random source; bytes, time, salts, nonces and keys are arguments. It reads through
//! [`source::BagSource`] and writes through [`source::BagSink`], so durability is the caller's folder and not ours.
//!
//! | Module | What lives there |
//! |---|---|
//! | [`source`], [`memory`] | how bytes come in and go out; a folder, and a store in memory that can fail on purpose |
//! | [`merkle`], [`record`], [`salt`] | the tree of RFC 6962, what a record is, how it is blinded |
//! | [`note`], [`checkpoint`], [`gate`] | signed notes, signed heads, and the one gate every signature of a head passes |
//! | [`entry`], [`ledger`] | the history of an incident: one line, the chain, the writer |
//! | [`bag`], [`seal`], [`map`], [`manifest`], [`acquisition`], [`path`] | the evidence bag and its parts |
//! | [`verify`] | the only place that makes a [`verify::VerifiedBag`] |
//!
//! The format itself is specified in this crate's `README.md`.

pub mod acquisition;
pub mod bag;
pub mod checkpoint;
pub mod durable;
pub mod encoding;
pub mod entry;
pub mod gate;
pub mod json;
pub mod ledger;
pub mod manifest;
pub mod map;
pub mod memory;
pub mod merkle;
pub mod note;
pub mod path;
pub mod record;
pub mod salt;
pub mod seal;
pub mod source;
pub mod time;
pub mod verify;
