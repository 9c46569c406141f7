//! real
/// x
#[derive(Debug)] pub struct RealDisk;
