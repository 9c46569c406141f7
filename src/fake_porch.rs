//! A Porch of one's own, for tests, the demonstration and benches: it keeps the server's contract over
//! real HTTP and TLS.
