//! Why the folder sink could not deliver, and what that makes of the intent.

use std::fmt;
use std::io;

use crate::error::{self, Consequence};
use crate::fate::Reason;
use crate::package::BlueprintFault;
use crate::submit::{Outcome, Tried};

/// Longest message of an outcome, in bytes.
const MAX_MESSAGE: usize = 4096;

/// What went wrong; paths are relative to the out directory.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file system said no.
    Io { act: &'static str, path: String, cause: io::Error },
    /// Something that is not ours stands under the package's name.
    Occupied { path: String, by: &'static str },
    /// The workload document that had to be kept is not to be told apart.
    Rearranged { path: String },
    /// The out directory itself is gone.
    OutGone,
    /// The blueprint cannot be had or cannot serve.
    Blueprint(BlueprintFault),
}

impl Fault {
    /// The outcome of the attempt that met this fault.
    pub(super) fn outcome(self) -> Outcome {
        let message = cut(self.to_string());
        let reason = match &self {
            Fault::Occupied { .. } | Fault::Rearranged { .. } => Reason::NameConflict,
            Fault::Blueprint(_) => Reason::RenderFailed,
            Fault::Io { .. } | Fault::OutGone => Reason::SinkUnavailable,
        };
        match error::Fault::consequence(&self) {
            Consequence::Refuse => Outcome::Rejected { reason, message },
            _ => Outcome::Retry {
                reason: Reason::SinkUnavailable,
                message,
                after: None,
                tried: Tried::Perhaps,
            },
        }
    }
}

impl error::Fault for Fault {
    fn consequence(&self) -> Consequence {
        match self {
            Fault::Occupied { .. } | Fault::Rearranged { .. } => Consequence::Refuse,
            Fault::Blueprint(fault) => fault.consequence(),
            Fault::Io { .. } | Fault::OutGone => Consequence::Retry,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Io { act, path, cause } => {
                write!(f, "cannot {act} {path} in the out directory: {cause}: {}", advice(cause))
            }
            Fault::Occupied { path, by } => write!(
                f,
                "{path} in the out directory is {by}, not written by this daemon and left as it is: \
                 move it away, then drop the file again"
            ),
            Fault::Rearranged { path } => write!(
                f,
                "{path} in the out directory is cut off or not in the order in which it was written, so its \
                 workload cannot be kept: restore or remove it, then drop the file again"
            ),
            Fault::OutGone => {
                f.write_str("the out directory was removed: create it again and restart the daemon")
            }
            Fault::Blueprint(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Fault::Io { cause, .. } => Some(cause),
            Fault::Blueprint(fault) => Some(fault),
            Fault::Occupied { .. } | Fault::Rearranged { .. } | Fault::OutGone => None,
        }
    }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space there",
        io::ErrorKind::PermissionDenied => "make it writable for the daemon's user",
        io::ErrorKind::ReadOnlyFilesystem => "mount it read-write again",
        io::ErrorKind::NotADirectory => "remove what stands where a directory belongs",
        _ => "look at the file system and its log",
    }
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    message
}
