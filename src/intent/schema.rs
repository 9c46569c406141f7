//! A JSON Schema of the user's own, checked beside the built-in rules.

use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::fault::{Fault, MOST_FAULTS, Place};
use crate::fate::Reason;

/// Compiled size of one `pattern` at most, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// A compiled schema (`--schema`); draft 2020-12 unless `$schema` says otherwise, formats asserted,
/// patterns matched in linear time (no look-around, no back-references).
pub struct UserSchema {
    validator: Validator,
    text: Box<str>,
}

impl UserSchema {
    /// Compiles the text of a schema.
    ///
    /// # Errors
    /// Not JSON, not a schema, a pattern that linear time cannot match, or a `$ref` to another
    /// document: nothing is ever fetched.
    pub fn compile(text: &str) -> Result<Self, String> {
        let schema: Value =
            serde_json::from_str(text).map_err(|error| format!("schema is not JSON: {error}"))?;
        jsonschema::options()
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_SIZE))
            .build(&schema)
            .map(|validator| UserSchema { validator, text: text.into() })
            .map_err(|error| match error.instance_path().as_str() {
                "" => format!("schema cannot be used: {error}"),
                path => format!("schema cannot be used: at {path}: {error}"),
            })
    }

    /// True if both were compiled from the same text.
    pub fn is_same_as(&self, other: &UserSchema) -> bool {
        self.text == other.text
    }

    /// Adds what the schema objects to. Documents must have passed the strict layer.
    pub(super) fn check(&self, raw: &[u8], faults: &mut Vec<Fault>) {
        // Fails only on numbers too large for a double, and those are refused anyway.
        let Ok(value) = serde_json::from_slice::<Value>(raw) else { return };
        faults.extend(self.validator.iter_errors(&value).take(MOST_FAULTS).map(|error| Fault {
            reason: Reason::Schema,
            pointer: error.instance_path().as_str().to_owned(),
            place: Place::Whole,
            text: format!("against the site's own schema: {error}").into(),
        }));
    }
}

impl fmt::Debug for UserSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserSchema").finish_non_exhaustive()
    }
}
