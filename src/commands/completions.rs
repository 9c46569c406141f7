//! `completions`: the script that completes command lines in a shell.

use std::io::{self, Write};

use crate::cli::{self, Shell};

/// What the bash script calls this program where it looks a command up.
const LABEL: &str = "conductor__loop";

/// How clap_complete 4.6.11 spells it where the commands are: it takes the hyphen for the end of a command,
/// so that nothing behind a command would be completed.
const MISSPELLED: &str = "conductor__subcmd__loop";

/// Prints the script of `shell`.
///
/// # Errors
///
/// Those of `out`.
pub fn run(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator expects a writer that never fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::shape(), "conductor-loop", &mut script);
    out.write_all(String::from_utf8_lossy(&script).replace(MISSPELLED, LABEL).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_bash_looks_up_is_there() {
        let mut script = Vec::new();
        run(Shell::Bash, &mut script).unwrap();
        let script = String::from_utf8(script).unwrap();
        let labels: Vec<&str> = script.split('"').filter(|text| text.starts_with(LABEL)).collect();
        assert!(labels.len() > cli::shape().get_subcommands().count(), "{labels:?}");
        for label in labels {
            assert!(script.contains(&format!("\n        {label})\n")), "{label}");
        }
    }
}
