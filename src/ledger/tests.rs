//! Behaviour of the ledger as a whole.
