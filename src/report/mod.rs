//! The incident document, lessons learned and metrics: one model from the ledger, many formats. Pure.
