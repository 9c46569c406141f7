//! YAML as the server reads and writes it: documents in, block style out.

use serde_json::Value;

/// The documents of a text; empty ones are left out.
///
/// # Errors
/// The first line of what the reader complains of.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.lines().all(|line| matches!(line.trim_start().chars().next(), None | Some('#'))) {
        return Ok(Vec::new());
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|fault| {
        let fault = fault.to_string();
        fault.lines().next().unwrap_or_default().to_owned()
    })?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Writes one document in block style, two spaces a level and lists not indented, as kpt does.
pub(super) fn emit(document: &Value) -> String {
    let mut text = String::new();
    block(document, 0, &mut text);
    text
}

fn block(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                pad(indent, text);
                text.push_str(&scalar_text(key));
                text.push(':');
                nested(value, indent + 2, indent, text);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| entry(item, indent, text)),
        other => {
            pad(indent, text);
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

/// What follows the colon of a key.
fn nested(value: &Value, indent: usize, list_indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            block(value, indent, text);
        }
        Value::Array(list) if !list.is_empty() => {
            text.push('\n');
            block(value, list_indent, text);
        }
        other => {
            text.push(' ');
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

/// One item of a list; the first line of a map shares the line of the dash.
fn entry(item: &Value, indent: usize, text: &mut String) {
    let mut inner = String::new();
    block(item, indent + 2, &mut inner);
    pad(indent, text);
    text.push_str("- ");
    text.push_str(inner.get(indent + 2..).unwrap_or("{}\n"));
}

fn pad(indent: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// Plain where no reader could take it for anything but this text, else in double quotes.
fn scalar_text(text: &str) -> String {
    let opens = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') || is_hash(text);
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_./() ,+".contains(c);
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let word = words.iter().any(|word| text.eq_ignore_ascii_case(word));
    let glued = text.replace(": ", "").replace(" #", "");
    let colons = glued.len() == text.len() && !text.ends_with(':');
    if opens && !word && colons && !text.ends_with(' ') && text.chars().all(|c| inside(c) || c == ':') {
        text.to_owned()
    } else {
        Value::String(text.to_owned()).to_string()
    }
}

/// A hash that no reader takes for a number, whatever it begins with.
fn is_hash(text: &str) -> bool {
    let hex = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex && text.bytes().any(|byte| b"abcdf".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let document = json!({"apiVersion": "kpt.dev/v1", "metadata": {"name": "a", "annotations":
            {"x/y": "true", "n": "5", "e": "", "c": "a: b", "l": "kpt.dev|Kptfile"}}, "info": {"keywords":
            ["scaling", "1"], "commit": "74f3b989a9900fda30eaf5a0cf125eb09d1fa1b1", "readinessGates": [{"conditionType": "a/b", "deep": {"x": [1, {}]}}]}, "pipeline": {}});
        assert_eq!(documents(&emit(&document)).unwrap(), [document]);
    }

    #[test]
    fn blank_texts_hold_no_document() {
        for text in ["", "\n\n", "# only a comment\n", "---\n---\n"] {
            assert_eq!(documents(text).unwrap(), Vec::<Value>::new(), "{text:?}");
        }
        assert_eq!(documents("a: 1\n---\nb: 2\n").unwrap().len(), 2);
    }
}
