//! Taking exhibits in, sealing them, and keeping the durable ledger: drives the evidence crate.
