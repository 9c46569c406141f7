//! A parsed value back as text: strings bare at the top, everything else compact JSON.

use std::fmt::Write as _;

use simd_json::prelude::{TypedScalarValue as _, ValueAsScalar as _, ValueIntoString as _};
use simd_json::tape::Value;

use super::token;

/// The text under which a field is handed to sinks; `json` is room to write in.
pub(super) fn text(value: Value<'_, '_>, json: &mut String) -> Box<str> {
    if let Some(text) = value.into_string() {
        return text.into();
    }
    json.clear();
    write(json, value);
    Box::from(&**json)
}

/// Recurses as deep as the document, which the strict layer has bounded.
fn write(out: &mut String, value: Value<'_, '_>) {
    if let Some(text) = value.into_string() {
        string(out, text);
    } else if let Some(object) = value.as_object() {
        let mut before = '{';
        for (key, member) in object.iter() {
            out.push(std::mem::replace(&mut before, ','));
            string(out, key);
            out.push(':');
            write(out, member);
        }
        out.push_str(if before == '{' { "{}" } else { "}" });
    } else if let Some(array) = value.as_array() {
        let mut before = '[';
        for element in array.iter() {
            out.push(std::mem::replace(&mut before, ','));
            write(out, element);
        }
        out.push_str(if before == '[' { "[]" } else { "]" });
    } else if value.is_null() {
        out.push_str("null");
    } else if let Some(truth) = value.as_bool() {
        out.push_str(if truth { "true" } else { "false" });
    } else {
        number(out, value);
    }
}

/// Writing to a string cannot fail.
fn number(out: &mut String, value: Value<'_, '_>) {
    let _ = match (value.as_i64(), value.as_u64(), value.as_f64()) {
        (Some(integer), _, _) => write!(out, "{integer}"),
        (_, Some(integer), _) => write!(out, "{integer}"),
        (_, _, double) => write!(out, "{}", serde_json::Value::from(double)),
    };
}

fn string(out: &mut String, text: &str) {
    if token::plain(text.as_bytes(), 0) == text.len() {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        let _ = write!(out, "{}", serde_json::Value::from(text));
    }
}
