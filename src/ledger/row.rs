//! Ledger rows as values: how a table row becomes a [`Row`] and an outcome becomes parameters.

use std::time::Duration;

use rusqlite::types::Type;
use serde_json::{Value, json};

use super::{End, Row};
use crate::clock::Wall;
use crate::disk::Identity;
use crate::fate::{Fate, Id, Lifecycle, Proof, Reason, Receipt, Sha, SinkKind, Source};
use crate::intent::{FieldError, Target, TargetKind};

/// Target kinds by stored number. Append only.
pub(super) const KINDS: [TargetKind; 5] = [
    TargetKind::Deployment,
    TargetKind::Statefulset,
    TargetKind::Daemonset,
    TargetKind::Service,
    TargetKind::Configuration,
];

/// The stored number of a kind.
pub(super) fn kind_code(kind: TargetKind) -> u8 {
    match kind {
        TargetKind::Deployment => 0,
        TargetKind::Statefulset => 1,
        TargetKind::Daemonset => 2,
        TargetKind::Service => 3,
        TargetKind::Configuration => 4,
    }
}

/// Whole rows, in the column order of [`read`]; a condition and an order may follow.
pub(super) const SELECT: &str = "SELECT i.seq, i.id, i.name, i.source, i.dev, i.ino, i.size, i.mtime, i.ctime, \
     i.proof, i.sha, i.generation, i.namespace, i.kind, i.target, i.priority, i.valid_until, i.accepted, \
     i.worker, o.no, o.fate, o.reason, o.message, o.errors, o.sink, o.remote, o.revision, o.lifecycle, \
     o.adopted, o.attempts, o.related, o.finished, o.duration, a.doubtful, q.origin \
     FROM intent i LEFT JOIN outcome o ON o.seq = i.seq LEFT JOIN attempt a ON a.seq = i.seq \
     LEFT JOIN requeue q ON q.seq = i.seq";

type Sql<'r> = rusqlite::Row<'r>;

/// A value that no version of ours has written.
fn odd(column: usize, what: impl Into<String>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, what.into().into())
}

fn unsigned(row: &Sql<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(i64::cast_unsigned)
}

fn word<T>(row: &Sql<'_>, at: usize, from: fn(u8) -> Option<T>) -> rusqlite::Result<Option<T>> {
    let Some(code) = row.get::<_, Option<u8>>(at)? else { return Ok(None) };
    from(code).map(Some).ok_or_else(|| odd(at, format!("unknown code {code}")))
}

fn needed<T>(at: usize, value: Option<T>) -> rusqlite::Result<T> {
    value.ok_or_else(|| odd(at, "missing value"))
}

/// A digest column.
pub(super) fn sha(row: &Sql<'_>, at: usize) -> rusqlite::Result<Option<Sha>> {
    let Some(bytes) = row.get_ref(at)?.as_blob_or_null()? else { return Ok(None) };
    bytes.try_into().map(|bytes| Some(Sha(bytes))).map_err(|_| odd(at, "a digest is 32 bytes"))
}

/// Three columns from `at` on: namespace, kind, name.
pub(super) fn target(row: &Sql<'_>, at: usize) -> rusqlite::Result<Option<Target>> {
    let Some(namespace) = row.get::<_, Option<Box<str>>>(at)? else { return Ok(None) };
    let kind = word(row, at + 1, |code| KINDS.get(usize::from(code)).copied())?;
    Ok(Some(Target { namespace, kind: needed(at + 1, kind)?, name: row.get(at + 2)? }))
}

/// Five columns from `at` on: dev, ino, size, mtime, ctime.
pub(super) fn identity(row: &Sql<'_>, at: usize) -> rusqlite::Result<Identity> {
    Ok(Identity {
        dev: unsigned(row, at)?,
        ino: unsigned(row, at + 1)?,
        size: unsigned(row, at + 2)?,
        mtime_ns: row.get(at + 3)?,
        ctime_ns: row.get(at + 4)?,
    })
}

/// One row of [`SELECT`].
pub(super) fn read(row: &Sql<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        seq: unsigned(row, 0)?,
        id: Id(unsigned(row, 1)?),
        name: row.get_ref(2)?.as_blob()?.into(),
        source: needed(3, word(row, 3, Source::from_code)?)?,
        identity: identity(row, 4)?,
        proof: word(row, 9, Proof::from_code)?,
        sha: sha(row, 10)?,
        generation: row.get(11)?,
        target: target(row, 12)?,
        priority: row.get(15)?,
        valid_until: row.get::<_, Option<i64>>(16)?.map(Wall),
        accepted_at: Wall(row.get(17)?),
        worker: row.get(18)?,
        requeue_of: row.get::<_, Option<i64>>(34)?.map(|id| Id(id.cast_unsigned())),
        end: end(row, 19)?,
    })
}

fn end(row: &Sql<'_>, at: usize) -> rusqlite::Result<Option<End>> {
    let Some(no) = row.get::<_, Option<i64>>(at)? else { return Ok(None) };
    let errors = match row.get_ref(at + 4)?.as_str_or_null()? {
        None => Vec::new(),
        Some(text) => errors_from(text).ok_or_else(|| odd(at + 4, "no list of faults"))?,
    };
    let fate = needed(at + 1, word(row, at + 1, Fate::from_code)?)?;
    let doubtful = row.get::<_, Option<bool>>(at + 14)?.unwrap_or(false);
    Ok(Some(End {
        no: no.cast_unsigned(),
        fate,
        reason: word(row, at + 2, Reason::from_code)?,
        message: row.get(at + 3)?,
        errors,
        sink: word(row, at + 5, SinkKind::from_code)?,
        remote: receipt(row, at + 6)?,
        possible_duplicate: doubtful && fate == Fate::Delivered,
        attempts: row.get(at + 10)?,
        related: row.get::<_, Option<i64>>(at + 11)?.map(|id| Id(id.cast_unsigned())),
        finished_at: Wall(row.get(at + 12)?),
        duration: Duration::from_micros(unsigned(row, at + 13)?),
    }))
}

fn receipt(row: &Sql<'_>, at: usize) -> rusqlite::Result<Option<Receipt>> {
    let Some(name) = row.get::<_, Option<String>>(at)? else { return Ok(None) };
    Ok(Some(Receipt {
        name,
        revision: row.get(at + 1)?,
        lifecycle: needed(at + 2, word(row, at + 2, Lifecycle::from_code)?)?,
        adopted: row.get(at + 3)?,
    }))
}

/// Faults as a JSON list; nothing for none.
pub(super) fn errors_text(errors: &[FieldError]) -> Option<String> {
    let one =
        |e: &FieldError| json!({"path": e.path, "line": e.line, "column": e.column, "message": e.message});
    (!errors.is_empty()).then(|| Value::Array(errors.iter().map(one).collect()).to_string())
}

fn errors_from(text: &str) -> Option<Vec<FieldError>> {
    let list: Vec<Value> = serde_json::from_str(text).ok()?;
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let one = |value: &Value| {
        Some(FieldError {
            path: value.get("path")?.as_str()?.to_owned(),
            line: value.get("line").and_then(number),
            column: value.get("column").and_then(number),
            message: value.get("message")?.as_str()?.to_owned(),
        })
    };
    list.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_number() {
        for (code, &kind) in KINDS.iter().enumerate() {
            assert_eq!(usize::from(kind_code(kind)), code);
        }
    }

    #[test]
    fn faults_of_a_document_survive_as_text() {
        let errors = vec![
            FieldError { path: "/replicas".into(), line: Some(5), column: Some(15), message: "\"x\"".into() },
            FieldError { path: String::new(), line: None, column: None, message: "cut off".into() },
        ];
        assert_eq!(errors_from(&errors_text(&errors).unwrap()), Some(errors));
        assert_eq!(errors_text(&[]), None);
        assert_eq!(errors_from("{"), None);
    }
}
