//! The value of one key in neutral form, and how each field of [`Config`](super::Config) takes and gives it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::model::{
    Approval, Archive, Coalesce, DedupScope, Listen, LogFormat, OpenProposal, PackageContent, PackageLayout,
    SandboxMode, StatusForm, UnknownFields, WatchMode,
};
use crate::fate::SinkKind;

/// A value that any key can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: the key's own rule applies.
    Unset,
    /// `true` or `false`.
    Flag(bool),
    /// A count.
    Number(u64),
    /// A size in bytes.
    Size(u64),
    /// A time.
    Time(Duration),
    /// A word, glob or address.
    Text(String),
    /// A path of any bytes.
    Path(PathBuf),
    /// Several words.
    List(Vec<String>),
}

impl Value {
    /// As JSON: durations and sizes as the file spells them, nothing as null, a path that is not
    /// UTF-8 with replacement characters.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Value::Unset => serde_json::Value::Null,
            Value::Flag(flag) => (*flag).into(),
            Value::Number(number) => (*number).into(),
            Value::Size(size) => super::units::show_size(*size).into(),
            Value::Time(time) => super::units::show_duration(*time).into(),
            Value::Text(text) => text.as_str().into(),
            Value::Path(path) => path.to_string_lossy().into(),
            Value::List(items) => items.as_slice().into(),
        }
    }
}

/// As the file spells it; nothing is `unset`, which no file can say.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.json() {
            serde_json::Value::Null => f.write_str("unset"),
            serde_json::Value::String(text) => f.write_str(&quoted(&text)),
            serde_json::Value::Array(items) => {
                let items: Vec<String> =
                    items.iter().filter_map(serde_json::Value::as_str).map(quoted).collect();
                write!(f, "[{}]", items.join(", "))
            }
            plain => write!(f, "{plain}"),
        }
    }
}

/// `text` as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A field of the settings that can give and take its [`Value`].
pub(super) trait Field {
    /// The value it holds.
    fn get(&self) -> Value;

    /// Takes `value`; false if it is of another type or does not fit.
    fn put(&mut self, value: Value) -> bool;
}

/// Stores `value` if there is one.
fn store<T>(field: &mut T, value: Option<T>) -> bool {
    value.map(|value| *field = value).is_some()
}

/// Fields that hold one variant of [`Value`] as it is.
macro_rules! plain_fields {
    ($($type:ty: $variant:ident),+ $(,)?) => { $(
        impl Field for $type {
            fn get(&self) -> Value {
                Value::$variant(self.clone())
            }

            fn put(&mut self, value: Value) -> bool {
                store(self, match value { Value::$variant(inner) => Some(inner), _ => None })
            }
        }
    )+ };
}

plain_fields!(bool: Flag, Duration: Time, String: Text, PathBuf: Path, Vec<String>: List);

/// Counts of any width.
macro_rules! count_fields {
    ($($type:ty),+) => { $(
        impl Field for $type {
            fn get(&self) -> Value {
                Value::Number(u64::try_from(*self).unwrap_or(u64::MAX))
            }

            fn put(&mut self, value: Value) -> bool {
                store(self, match value { Value::Number(n) => n.try_into().ok(), _ => None })
            }
        }
    )+ };
}

count_fields!(u32, usize);

/// Counts and sizes of 64 bits; which of the two a key is says its kind.
impl Field for u64 {
    fn get(&self) -> Value {
        Value::Number(*self)
    }

    fn put(&mut self, value: Value) -> bool {
        store(
            self,
            match value {
                Value::Number(number) | Value::Size(number) => Some(number),
                _ => None,
            },
        )
    }
}

impl Field for Option<String> {
    fn get(&self) -> Value {
        self.clone().map_or(Value::Unset, Value::Text)
    }

    fn put(&mut self, value: Value) -> bool {
        store(
            self,
            match value {
                Value::Unset => Some(None),
                Value::Text(text) => Some(Some(text)),
                _ => None,
            },
        )
    }
}

impl Field for Option<PathBuf> {
    fn get(&self) -> Value {
        self.clone().map_or(Value::Unset, Value::Path)
    }

    fn put(&mut self, value: Value) -> bool {
        store(
            self,
            match value {
                Value::Unset => Some(None),
                Value::Path(path) => Some(Some(path)),
                _ => None,
            },
        )
    }
}

impl Field for Listen {
    fn get(&self) -> Value {
        if *self == Listen::Unset { Value::Unset } else { Value::Text(self.to_string()) }
    }

    fn put(&mut self, value: Value) -> bool {
        store(
            self,
            match value {
                Value::Unset => Some(Listen::Unset),
                Value::Text(text) => Listen::parse(&text),
                _ => None,
            },
        )
    }
}

/// Enums whose variants are words outside.
macro_rules! word_fields {
    ($($type:ident { $($variant:ident = $word:literal),+ $(,)? })+) => { $(
        impl $type {
            /// Every spelling, in declaration order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// As the file spells it.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
        }

        impl Field for $type {
            fn get(&self) -> Value {
                Value::Text(self.as_str().into())
            }

            fn put(&mut self, value: Value) -> bool {
                store(self, match value {
                    Value::Text(text) => match text.as_str() {
                        $($word => Some($type::$variant),)+
                        _ => None,
                    },
                    _ => None,
                })
            }
        }
    )+ };
}

word_fields! {
    WatchMode { Auto = "auto", Inotify = "inotify", Poll = "poll" }
    UnknownFields { Refuse = "refuse", Ignore = "ignore" }
    DedupScope { NameAndContent = "name+content", Content = "content" }
    Coalesce { Latest = "latest", Off = "off" }
    PackageLayout { Target = "target", Namespace = "namespace", Site = "site" }
    PackageContent { Workloads = "workloads", Component = "component" }
    Approval { Draft = "draft", Propose = "propose", Publish = "publish" }
    OpenProposal { Update = "update", Wait = "wait" }
    Archive { Rename = "rename", Snapshot = "snapshot" }
    StatusForm { Files = "files", Journal = "journal" }
    SandboxMode { BestEffort = "best-effort", Require = "require", Off = "off" }
    LogFormat { Auto = "auto", Text = "text", Json = "json", Journald = "journald" }
}

impl Field for SinkKind {
    fn get(&self) -> Value {
        Value::Text(self.as_str().into())
    }

    fn put(&mut self, value: Value) -> bool {
        store(
            self,
            match value {
                Value::Text(text) => SinkKind::from_word(&text),
                _ => None,
            },
        )
    }
}
