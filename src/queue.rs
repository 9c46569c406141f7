//! Bounded lock-free lanes between the watcher and the workers, and the names in flight.
