//! What is wrong with a configuration, and where each value of it came from.

use std::fmt;
use std::path::PathBuf;

use crate::error::Consequence;

/// The layer that a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A settings file.
    File {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// 1-based, in characters.
        column: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// `--set KEY=VALUE`.
    Set,
    /// The flag of this spelling, `--debounce`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line, column } => {
                write!(f, "{} line {line} column {column}", path.display())
            }
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Set => f.write_str("flag --set"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One fault, printed as
/// `FILE line 3 column 12: watch.debounce: "5 bananas" is not a duration; write for example 100ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: a position in a file, a file, a variable or a flag.
    pub place: String,
    /// What is wrong and what to do about it; begins with the key where there is one.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(place: impl fmt::Display, message: impl Into<String>) -> Self {
        Fault { place: place.to_string(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Every fault of a configuration, at least one; printed one a line, without a final newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl crate::error::Fault for Faults {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }
}
