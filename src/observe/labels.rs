//! The closed sets that metric labels and health checks are drawn from.
//!
//! A word is spelled once, here or in [`crate::fate`]. No name, target, namespace or error text ever
//! becomes a label, so the number of series does not depend on what is dropped.

macro_rules! labels {
    ($($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every word, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word as it is spelled outside.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }
    )+};
}

pub(super) use labels;

labels! {
    /// `stage`: the steps of one file that are timed.
    Stage {
        /// Open, read and hash.
        Read = "read",
        /// Parse and check.
        Validate = "validate",
        /// Hand-over to the ledger until the accept row is durable.
        Commit = "commit",
        /// One attempt at the sink.
        Submit = "submit",
        /// Status file and filing.
        Settle = "settle",
    }

    /// `lane`: the three lanes of the queue.
    Lane {
        /// From events.
        Fresh = "fresh",
        /// From scans.
        Backlog = "backlog",
        /// Above the map threshold.
        Large = "large",
    }

    /// `priority`: 0–3, 4–7, 8–10.
    PriorityBand {
        /// 0 to 3.
        Low = "low",
        /// 4 to 7.
        Normal = "normal",
        /// 8 to 10.
        High = "high",
    }

    /// `cause`: why the folder was scanned.
    Cause {
        /// At the start.
        Start = "start",
        /// The period was over.
        Period = "period",
        /// The kernel dropped events.
        Overflow = "overflow",
        /// A lane was full.
        QueueFull = "queue-full",
        /// The folder came back.
        Returned = "returned",
        /// SIGHUP.
        Signal = "signal",
    }

    /// `outcome`: what one attempt at the sink came to.
    SubmitResult {
        /// Delivered.
        Ok = "ok",
        /// The sink's trouble; tried again.
        Retry = "retry",
        /// The content is refused for good.
        Rejected = "rejected",
    }

    /// `class`: why an attempt at the sink is repeated.
    RetryClass {
        /// The sink cannot be reached or used now.
        Unavailable = "unavailable",
        /// It did not answer in time.
        Timeout = "timeout",
        /// It refuses the daemon itself.
        Auth = "auth",
        /// It asked for fewer requests.
        Throttled = "throttled",
        /// Anything else.
        Other = "other",
    }

    /// `result`: what a reload came to.
    ReloadResult {
        /// The settings were loaded and taken over.
        Ok = "ok",
        /// They were refused; the old ones stay.
        Failed = "failed",
    }

    /// State of a sink's breaker; exported as its number: 0, 1, 2.
    Circuit {
        /// Attempts go through.
        Closed = "closed",
        /// One attempt goes through.
        HalfOpen = "half-open",
        /// None does.
        Open = "open",
    }

    /// `mode`: how the folder is watched.
    WatchMethod {
        /// Kernel events.
        Inotify = "inotify",
        /// Scans alone.
        Poll = "poll",
    }

    /// `dir`: the file systems whose free space is watched.
    Volume {
        /// The watched folder.
        Handoff = "handoff",
        /// The folder sink's packages.
        Out = "out",
        /// The ledger.
        State = "state",
    }

    /// `code`: why an HTTP request was turned away.
    HttpCode {
        /// A body, a doubled header, a foreign target, or no HTTP at all.
        Malformed = "400",
        /// No such page.
        NotFound = "404",
        /// Neither GET nor HEAD.
        Method = "405",
        /// The header did not arrive, or the answer was not taken, in time.
        Slow = "408",
        /// The request line is too long.
        UriTooLong = "414",
        /// The header is too long.
        HeaderTooLarge = "431",
        /// Closed to make room for a newer connection.
        Crowded = "503",
        /// Neither HTTP/1.1 nor HTTP/1.0.
        Version = "505",
    }

    /// `fault`: trouble of the surroundings (`contract.md` 7; `reliability.md` 13, tables F, D and P).
    FaultKind {
        /// No space, no quota, no inodes.
        DiskFull = "disk-full",
        /// EROFS.
        ReadOnly = "read-only",
        /// EIO on a dropped file.
        IoError = "io-error",
        /// The ledger's flush failed.
        FsyncFailed = "fsync-failed",
        /// The ledger was set aside.
        LedgerCorrupt = "ledger-corrupt",
        /// Ledger or state directory vanished while running.
        StoreLost = "store-lost",
        /// No descriptors, no memory.
        Resources = "resources",
        /// No inotify instance or watch left.
        InotifyLimit = "inotify-limit",
        /// The kernel's event queue ran over.
        InotifyOverflow = "inotify-overflow",
        /// A file-system call does not return.
        FsStalled = "fs-stalled",
        /// The wall clock jumped.
        ClockJump = "clock-jump",
        /// A name with control, bidi or invalid bytes.
        BadName = "bad-name",
        /// Gone before acceptance.
        Vanished = "vanished",
        /// A mount point on the name.
        Mountpoint = "mountpoint",
        /// Changed while it was read.
        Unstable = "unstable",
        /// The original cannot be moved out of the folder.
        CannotFile = "cannot-file",
        /// The watched folder is gone or replaced.
        HotFolderGone = "hot-folder-gone",
        /// One of the daemon's own directories was replaced.
        DirReplaced = "dir-replaced",
        /// The sink cannot be reached or used.
        SinkUnreachable = "sink-unreachable",
        /// The sink did not answer in time.
        SinkTimeout = "sink-timeout",
        /// What became of a request is unknown; the sink is asked.
        SinkAmbiguous = "sink-ambiguous",
        /// The sink is busy with another request for the object.
        SinkConflict = "sink-conflict",
        /// The sink asked for fewer requests.
        SinkThrottled = "sink-throttled",
        /// The sink refuses the daemon itself.
        SinkAuth = "sink-auth",
        /// The sink's certificate does not hold.
        SinkTls = "sink-tls",
        /// The sink sent the daemon elsewhere.
        SinkRedirect = "sink-redirect",
        /// The sink's answer is not one.
        SinkProtocol = "sink-protocol",
        /// Somebody else changed what was half done.
        SinkPartial = "sink-partial",
        /// A foreign object holds our name.
        NameConflict = "name-conflict",
        /// The external command is missing or may not be run.
        CliUnavailable = "cli-unavailable",
        /// The external command did not end.
        CliTimeout = "cli-timeout",
        /// The external command said more than is kept.
        CliOutput = "cli-output",
        /// The external command failed.
        CliExit = "cli-exit",
    }
}
