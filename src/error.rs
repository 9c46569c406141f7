//! What happens next after an error: the file is refused, the step is tried again, or the process stops.
//!
//! Every module keeps its own error enum beside its code and says the [`Consequence`] of each variant.
//! Workers and stages act on that alone, so no stage has to know another stage's errors.

/// What the pipeline does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The file's own fault: it goes to `failed/` with the reason beside it.
    Refuse,
    /// The surroundings' fault: the same step is tried again later, the file waits.
    Retry,
    /// Going on would break a promise: the process ends with exit code 1 and says why.
    Stop,
}

/// An error that knows its own consequence.
pub trait Fault: std::error::Error {
    /// What the pipeline must do about this error.
    fn consequence(&self) -> Consequence;
}
