//! The closed vocabularies of the outside contract: fates, reasons, proofs, lifecycles and intent ids.
//!
//! Every word here is spelled once and printed in status files, logs and metric labels alike, so
//! that the number of metric series stays bounded whatever is dropped. Changing a word is a
//! breaking change.

use std::fmt;

use sha2::{Digest as _, Sha256};

macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every word, in declaration order (which is also its stored number).
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word as it is spelled outside.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            /// The number under which the ledger stores this word: its place in [`Self::ALL`].
            pub const fn code(self) -> u8 { self as u8 }

            /// The word with this stored number.
            pub fn from_code(code: u8) -> Option<Self> { Self::ALL.get(usize::from(code)).copied() }

            /// The word spelled `text`.
            pub fn from_word(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

vocabulary! {
    /// The five ways in which an accepted file can end. Append only: the ledger stores the number.
    Fate {
        /// The configured sink level was reached.
        Delivered = "delivered",
        /// Equal to the newest accepted intent of the same name.
        Duplicate = "duplicate",
        /// The file's own content or kind forbids it.
        Refused = "refused",
        /// `valid_until` or `max_age` passed before it could be sent.
        Expired = "expired",
        /// A newer intent for the same target made it pointless.
        Superseded = "superseded",
    }
}

impl Fate {
    /// True for fates that count as success to the producer (`processed/`, `status: success`).
    pub const fn is_success(self) -> bool {
        matches!(self, Fate::Delivered | Fate::Duplicate | Fate::Superseded)
    }
}

vocabulary! {
    /// Why a file was refused, expired, superseded or has to wait. Append only.
    Reason {
        /// No bytes after one more window.
        Empty = "empty",
        /// Larger than `intake.max_size`.
        TooLarge = "too-large",
        /// A FIFO, socket, device or directory.
        NotRegular = "not-regular",
        /// A symbolic link; never followed.
        Symlink = "symlink",
        /// More than one link after 2 s.
        Hardlink = "hardlink",
        /// Could not be opened for 30 s.
        Unreadable = "unreadable",
        /// Changed under every reading, 20 rounds or 10 min.
        Unstable = "unstable",
        /// Somebody else's lease for 10 min.
        Lease = "lease",
        /// The document stops in the middle.
        TruncatedJson = "truncated-json",
        /// Not RFC 8259.
        JsonSyntax = "json-syntax",
        /// BOM, UTF-16, invalid UTF-8, lone surrogate.
        JsonEncoding = "json-encoding",
        /// Nested deeper than `intake.max_depth`.
        JsonDepth = "json-depth",
        /// One member name twice, after unescaping.
        JsonDuplicateKey = "json-duplicate-key",
        /// An integer field that holds no integer in its range.
        JsonNumber = "json-number",
        /// More values than `intake.max_values`, or over-long strings.
        JsonLimits = "json-limits",
        /// A field missing, unknown, null or of a wrong type.
        Schema = "schema",
        /// The right type with a forbidden value.
        BadField = "bad-field",
        /// The site's or the intent's own policy forbids it.
        Policy = "policy",
        /// `valid_until` or `max_age` passed.
        Expired = "expired",
        /// Signature missing, wrong or replayed.
        Signature = "signature",
        /// The sink holds a foreign object under our name.
        NameConflict = "name-conflict",
        /// The sink refused the content.
        SinkRejected = "sink-rejected",
        /// The sink could not render the package.
        RenderFailed = "render-failed",
        /// The external command said no.
        CliExit = "cli-exit",
        /// The external command did not end.
        CliTimeout = "cli-timeout",
        /// The external command is missing.
        CliUnavailable = "cli-unavailable",
        /// Two panics or three process deaths with this file in hand, or its kept bytes are lost.
        CrashSuspect = "crash-suspect",
        /// Overtaken by a newer intent while it waited.
        NewerIntent = "newer-intent",
        /// Older than an intent already accepted for its target.
        OlderThanApplied = "older-than-applied",
        /// An open proposal must be approved first.
        AwaitingApproval = "awaiting-approval",
        /// The sink cannot be reached.
        SinkUnavailable = "sink-unavailable",
        /// The sink refuses the daemon itself.
        SinkAuth = "sink-auth",
        /// The sink asked for fewer requests.
        SinkThrottled = "sink-throttled",
        /// The original cannot be moved out of the folder.
        CannotFile = "cannot-file",
    }
}

impl Reason {
    /// True for words with which a file can be refused; the others are of files that expired, were
    /// superseded or wait.
    pub const fn refuses(self) -> bool {
        !matches!(
            self,
            Reason::Expired
                | Reason::NewerIntent
                | Reason::OlderThanApplied
                | Reason::AwaitingApproval
                | Reason::SinkUnavailable
                | Reason::SinkAuth
                | Reason::SinkThrottled
                | Reason::CannotFile
        )
    }
}

vocabulary! {
    /// How it was known that the writer had finished (`design.md` D1). Append only.
    Proof {
        /// Renamed in, and no lease is to be had here.
        Rename = "rename",
        /// A read lease was granted: nobody had it open for writing.
        Lease = "lease",
        /// Close seen, then one quiet window.
        Close = "close",
        /// One quiet window only.
        Quiet = "quiet",
    }
}

vocabulary! {
    /// The level that the sink reached with an intent. Append only.
    Lifecycle {
        /// A draft package revision.
        Draft = "Draft",
        /// Proposed, waits for approval.
        Proposed = "Proposed",
        /// Published; folder and exec sinks know only this level.
        Published = "Published",
        /// A custom resource was applied.
        Applied = "Applied",
    }
}

vocabulary! {
    /// Where a file was noticed. Append only.
    Source {
        /// A kernel event.
        Event = "event",
        /// A directory scan.
        Scan = "scan",
    }
}

vocabulary! {
    /// The sinks of this version. Append only.
    SinkKind {
        /// Packages in a local directory.
        Folder = "folder",
        /// Package revisions on a Porch server.
        Porch = "porch",
    }
}

/// The 64-bit identity of an accepted file: the first eight bytes of SHA-256 over the store id and
/// the ledger's sequence number, so that it is the same after every restart and differs between stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u64);

impl Id {
    /// The id of ledger row `seq` in the store named `store`.
    pub fn derive(store: &[u8; 16], seq: u64) -> Self {
        let digest = Sha256::new().chain_update(store).chain_update(seq.to_be_bytes()).finalize();
        let mut first = [0u8; 8];
        first.copy_from_slice(&digest[..8]);
        Id(u64::from_be_bytes(first))
    }

    /// The first eight of the sixteen hex digits, as used in file names.
    pub fn short(self) -> String {
        format!("{:08x}", self.0 >> 32)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() != 16 {
            return Err(format!("intent id {text:?} is not 16 hex digits"));
        }
        u64::from_str_radix(text, 16).map(Id).map_err(|_| format!("intent id {text:?} is not 16 hex digits"))
    }
}

/// The SHA-256 of exactly the bytes that were parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha(pub [u8; 32]);

impl Sha {
    /// Digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Sha(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the sink holds after a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The object's name at the sink, `oran-odu/deployment-odu-high-phy`.
    pub name: String,
    /// Its revision there; empty where the sink is not told one.
    pub revision: String,
    /// The level reached.
    pub lifecycle: Lifecycle,
    /// True when it was found already there, applied by an earlier attempt.
    pub adopted: bool,
}

impl Receipt {
    /// One line for the producer: `delivered to folder:ran-a/deployment-nf revision 3`; of a revision that
    /// somebody else has to approve, `proposed as porch:edge.ran-a-nf.i-0123`.
    pub fn told(&self, sink: SinkKind) -> String {
        let done = match self.lifecycle {
            Lifecycle::Draft => "drafted as",
            Lifecycle::Proposed => "proposed as",
            Lifecycle::Published | Lifecycle::Applied => "delivered to",
        };
        let revision = if self.revision.is_empty() { "" } else { " revision " };
        format!("{done} {sink}:{}{revision}{}", self.name, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_lead_back_to_the_same_value() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(reason));
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(Fate::from_code(5), None);
    }

    #[test]
    fn an_id_is_stable_and_differs_between_stores() {
        let id = Id::derive(&[7; 16], 42);
        assert_eq!(id, Id::derive(&[7; 16], 42));
        assert_ne!(id, Id::derive(&[8; 16], 42));
        assert_eq!(id.to_string().parse::<Id>(), Ok(id));
        assert!(id.to_string().starts_with(&id.short()));
    }
}
