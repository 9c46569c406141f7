//! Values of flags, judged by the key table so that the words of a refusal are the file's.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command};

use crate::config::{Kind, keys, units};

/// Takes what the key of this full name takes, unchanged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked(pub(super) &'static str);

/// Any path; every key that holds one takes the same.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    Checked("watch.handoff").map(PathBuf::from)
}

impl TypedValueParser for Checked {
    type Value = OsString;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OsString, clap::Error> {
        let wrong = keys::find(self.0).and_then(|key| key.check(value).err());
        match wrong {
            None => Ok(value.to_owned()),
            Some(text) => {
                let flag = arg.map(ToString::to_string).unwrap_or_default();
                let message = format!("invalid value for '{flag}': {text}");
                Err(command.clone().error(ErrorKind::ValueValidation, message))
            }
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        match keys::find(self.0)?.kind {
            Kind::Word(words) => Some(Box::new(words.iter().map(|word| PossibleValue::new(*word)))),
            _ => None,
        }
    }
}

/// A duration that is no setting.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).ok_or_else(|| "not a duration; write for example 30s".into())
}

/// A boolean in the spellings of Go's flags.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("not true or false".into()),
    }
}

/// A whole number of Go's flags, unchanged.
pub(super) fn go_int(text: &str) -> Result<OsString, String> {
    text.parse::<i64>().map(|_| text.into()).map_err(|_| "not a whole number; write for example 10".into())
}

/// A duration of Go's flags, which may have a sign, unchanged.
pub(super) fn go_duration(text: &str) -> Result<OsString, String> {
    duration(text.strip_prefix(['-', '+']).unwrap_or(text)).map(|_| text.into())
}

/// `KEY=VALUE`; the key is judged with the other layers, so that all faults are named at once.
pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().into(), value.into())),
        _ => Err("not KEY=VALUE; write for example watch.debounce=50ms".into()),
    }
}
