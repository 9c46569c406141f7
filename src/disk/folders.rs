//! folders
/// x
#[derive(Debug)] pub struct Folders; 
/// x
#[derive(Debug)] pub struct FolderFault;
