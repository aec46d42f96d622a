//! Carrying out a plan: what is next (pure), the journal as a view of the ledger (pure), the driver (waits).
