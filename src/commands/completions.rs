//! `completions`: the script that completes command lines in a shell.

use std::io::{self, Write};

use crate::cli::{self, Shell};

/// Prints the script of `shell`.
///
/// # Errors
///
/// Those of `out`.
pub fn run(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator expects a writer that never fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::shape(), "conductor-loop", &mut script);
    out.write_all(&script)
}
