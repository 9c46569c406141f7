//! Metrics, health, logs and the HTTP page that shows them.
