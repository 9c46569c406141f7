//! `[sink.exec]`: the external command of the exec sink.

use std::path::PathBuf;
use std::time::Duration;

/// `[sink.exec]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecSink {
    /// What is run: a path, or a name that is looked up in `PATH`. Needed when this is the sink.
    pub command: Option<PathBuf>,
    /// How it is called.
    pub mode: ExecMode,
    /// How long one run may take.
    pub timeout: Duration,
    /// Runs after which an intent is refused that always ended in trouble which may pass.
    pub attempts: u32,
    /// What becomes of an intent whose last run may have had its effect.
    pub on_uncertain: OnUncertain,
}

/// `sink.exec.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecMode {
    /// `CMD -intent FILE -out DIR`
    Direct,
    /// The same with `-structured` behind it.
    Structured,
}

/// `sink.exec.on_uncertain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUncertain {
    /// Run the command again; the delivery is marked as a possible duplicate.
    Retry,
    /// Wait for the operator.
    Hold,
}

impl Default for ExecSink {
    fn default() -> Self {
        ExecSink {
            command: None,
            mode: ExecMode::Direct,
            timeout: Duration::from_secs(30),
            attempts: 3,
            on_uncertain: OnUncertain::Retry,
        }
    }
}
