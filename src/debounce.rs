//! When a dropped file counts as complete: a pure state machine keyed by name.
