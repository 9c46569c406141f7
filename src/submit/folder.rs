//! The embedded default sink: one kpt package per target in a local directory.
