//! How dropped files are noticed: kernel events as hints, the scan as the guarantee.
