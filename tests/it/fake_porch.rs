//! The fake Porch from outside: over its port, as the client sees it.

mod deviations;
mod replay;
mod same;
mod scenes;
mod wire;
