//! The fake Porch from outside: over its port, as the client sees it.

mod deviations;
mod disconnect;
mod faults;
mod life;
mod replay;
mod same;
mod scenes;
mod watch;
mod wire;
