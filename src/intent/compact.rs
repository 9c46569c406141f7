//! A parsed value back as text: strings bare at the top, everything else compact JSON.

use std::io::{self, Write as _};

use simd_json::prelude::{TypedScalarValue as _, ValueAsScalar as _, ValueIntoString as _};
use simd_json::tape::Value;

/// The text under which a field is handed to sinks.
pub(super) fn text(value: Value<'_, '_>) -> Box<str> {
    if let Some(text) = value.into_string() {
        return text.into();
    }
    let mut json = Vec::new();
    // Writing to memory cannot fail and every part is UTF-8.
    let _ = write(&mut json, value);
    String::from_utf8(json).unwrap_or_default().into()
}

/// As deep as the document, which the strict layer has bounded.
fn write(out: &mut Vec<u8>, value: Value<'_, '_>) -> io::Result<()> {
    if let Some(text) = value.into_string() {
        return string(out, text);
    }
    if let Some(object) = value.as_object() {
        out.push(b'{');
        for (index, (key, member)) in object.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(out, key)?;
            out.push(b':');
            write(out, member)?;
        }
        out.push(b'}');
    } else if let Some(array) = value.as_array() {
        out.push(b'[');
        for (index, element) in array.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write(out, element)?;
        }
        out.push(b']');
    } else if let Some(integer) = value.as_i64() {
        write!(out, "{integer}")?;
    } else if let Some(integer) = value.as_u64() {
        write!(out, "{integer}")?;
    } else if let Some(number) = value.as_f64() {
        serde_json::to_writer(out, &number)?;
    } else if value.is_null() {
        out.extend_from_slice(b"null");
    } else {
        write!(out, "{}", value.as_bool().unwrap_or_default())?;
    }
    Ok(())
}

fn string(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    Ok(serde_json::to_writer(out, text)?)
}
