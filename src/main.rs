//! The process: arguments in, exit code out.

use std::io::{self, Write as _};
use std::process::ExitCode;

use conductor_loop::{cli, commands};

/// What a second signal does: the ledger resumes at the next start what was cut off.
#[allow(clippy::exit)]
fn leave() {
    std::process::exit(1)
}

fn say(text: &str, stdout: bool) {
    // Nobody is left to be told when the stream is closed.
    let _ = match stdout {
        true => io::stdout().lock().write_all(text.as_bytes()),
        false => io::stderr().lock().write_all(text.as_bytes()),
    };
}

fn main() -> ExitCode {
    let args = match cli::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(usage) => {
            say(&usage.text, usage.stdout);
            return ExitCode::from(usage.code);
        }
    };
    let environment = std::env::vars_os().collect();
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let verdict = commands::execute(args, &environment, &mut stdout, leave);
    let flushed = stdout.flush();
    match verdict {
        Ok(code)
            if code == 0 && flushed.as_ref().is_err_and(|err| err.kind() != io::ErrorKind::BrokenPipe) =>
        {
            say("conductor-loop: the answer could not be written\n", false);
            ExitCode::from(1)
        }
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&format!("conductor-loop: {}\n", failure.message), false);
            ExitCode::from(failure.code)
        }
    }
}
