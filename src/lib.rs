//! firebreak: contain a breach, prove it, preserve evidence and document it, on one signed ledger.
//!
//! # Architecture
//!
//! **The ledger is the only memory.** Each incident has one append-only, hash-chained, signed ledger. Every intent,
//! outcome, approval, observation, exhibit and answer is an entry in it; everything else is a view of those entries: a
//! run resumes from it, the timeline and the incident document are projections of it, RTO is measured on it, and the
//! evidence package is it plus the exhibits. Nothing acts before its intent is durable in the ledger. Secrets and bulk
//! bytes never enter it, only digests and references.
//!
//! # The path of one step
//!
//! [`playbook`] (a reviewed file is read and checked) → [`plan`] (bound to one incident and to what was observed; approved
//! by digest) → [`run`] (`machine` says what is next from the journal, `driver` does it) → [`action`] (the verb:
//! preview, apply, observe, undo) → [`port`] (what it needs from outside) → `adapter` (how we get it) → the ledger
//! ([`custody`]) → [`report`] (the document).
//!
//! # Rooms, and who may know whom
//!
//! | Room | Holds | May know |
//! |---|---|---|
//! | [`incident`] | domain nouns and the ledger's entries as types; pure | nothing of ours |
//! | [`reach`] | who can reach whom under which policies; the relabel solver; pure | `incident` |
//! | [`condition`] | what a person may write as a condition or a selection: CEL, three-valued; pure | nothing of ours |
//! | [`rotation`] | which credentials, in which order, and what comes next for each; pure | `incident`, `condition`, shapes of `port` |
//! | [`playbook`] | read, check, explain playbooks; pure | `incident`, `condition`, the action registry |
//! | [`plan`] | playbook + scope + observed state → plan, approvals; pure | `incident`, `playbook`, the action registry |
//! | [`port`] | what we need from outside, in the responder's words | `incident`, `reach` |
//! | [`custody`] | taking exhibits in, sealing, the durable ledger; drives the evidence crate | `incident`, `port` |
//! | [`action`] | the verbs, one file each; `registry` is pure | `incident`, `reach`, `port`, `report` |
//! | [`run`] | `machine` (pure), `journal` (pure), `driver` (async) | `incident`, `playbook`, `plan`, `action`, `port`, `custody` |
//! | [`report`] | document, lessons, metrics from one model; pure | `incident`, `rotation` |
//! | `adapter` | Kubernetes, files, HTTPS, and `sim`, the drill's world | `incident`, `reach`, `port` |
//! | [`drill`] | rehearse a playbook against `sim`, score it | all but `cli` |
//! | `cli` | clap, terminal, JSON; the composition root | all |
//!
//! `tests/walls.rs` reads the `use` lines and fails on an import against this order. Two builds prove the walls: the core
//! without adapters (`--no-default-features`), and the evidence crate alone.

pub mod action;
pub mod condition;
pub mod custody;
pub mod incident;
pub mod plan;
pub mod playbook;
pub mod port;
pub mod reach;
pub mod report;
pub mod rotation;
pub mod run;

#[cfg(feature = "adapters")]
pub mod adapter;
#[cfg(feature = "adapters")]
pub mod cli;
#[cfg(feature = "adapters")]
pub mod drill;
