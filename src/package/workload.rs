//! `workload.yaml`: the hot path of the package, one pass into a reused buffer.

use std::borrow::Cow;

use super::yaml::{push_decimal, push_escaped, push_hex, push_quoted};
use super::{
    Blueprint, INTENT_ID, INTENT_KEY, INTENT_SHA256, LOCAL_CONFIG, MANAGED_BY, MANAGER, REVISION, Stamp,
};
use crate::fate::Sha;
use crate::intent::{Intent, TargetKind};

/// Longest key of a ConfigMap, in bytes (Kubernetes).
const MAX_KEY: usize = 253;

/// What the workload document is made from.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// Exactly what the intent owns: name, namespace and this count.
    Owned(u32),
    /// The site's whole workload with this count.
    Blueprint(&'a Blueprint, u32),
    /// The document that is there, byte by byte.
    Kept(&'a str),
    /// There is none: the file holds the ConfigMap alone.
    Absent,
}

/// Appends `workload.yaml` of `intent` to `out`.
pub fn render(out: &mut Vec<u8>, intent: &Intent, stamp: &Stamp<'_>, base: Base<'_>) {
    render_keyed(out, intent, stamp, base, None);
}

/// The same, with the intent's dedup key in the ConfigMap where the sink looks for it there.
pub(super) fn render_keyed(
    out: &mut Vec<u8>,
    intent: &Intent,
    stamp: &Stamp<'_>,
    base: Base<'_>,
    key: Option<&Sha>,
) {
    match base {
        Base::Owned(replicas) => owned(out, intent, stamp, replicas),
        Base::Blueprint(blueprint, replicas) => blueprint.render(out, stamp, replicas),
        Base::Kept(document) => out.extend_from_slice(document.as_bytes()),
        Base::Absent => return config_map(out, intent, stamp, key),
    }
    out.extend_from_slice(b"---\n");
    config_map(out, intent, stamp, key);
}

fn owned(out: &mut Vec<u8>, intent: &Intent, stamp: &Stamp<'_>, replicas: u32) {
    out.extend_from_slice(b"apiVersion: apps/v1\nkind: ");
    out.extend_from_slice(api_kind(intent.target.kind).as_bytes());
    out.extend_from_slice(b"\nmetadata:\n  name: ");
    push_quoted(out, &intent.target.name);
    out.extend_from_slice(b"\n  namespace: ");
    push_quoted(out, &intent.target.namespace);
    push_labels(out);
    push_stamp(out, "    ", "\n", stamp);
    out.extend_from_slice(b"spec:\n  replicas: ");
    push_decimal(out, u64::from(replicas));
    out.push(b'\n');
}

/// The parsed intent as a ConfigMap named `<name>-intent`.
fn config_map(out: &mut Vec<u8>, intent: &Intent, stamp: &Stamp<'_>, key: Option<&Sha>) {
    out.extend_from_slice(b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: \"");
    push_escaped(out, &intent.target.name);
    out.extend_from_slice(b"-intent\"\n  namespace: ");
    push_quoted(out, &intent.target.namespace);
    push_labels(out);
    push_stamp(out, "    ", "\n", stamp);
    if let Some(Sha(digest)) = key {
        out.extend_from_slice(b"    ");
        out.extend_from_slice(INTENT_KEY.as_bytes());
        out.extend_from_slice(b": \"");
        push_hex(out, digest);
        out.extend_from_slice(b"\"\n");
    }
    out.extend_from_slice(b"    ");
    out.extend_from_slice(LOCAL_CONFIG.as_bytes());
    out.extend_from_slice(b": \"true\"\n");
    if intent.fields.is_empty() {
        return out.extend_from_slice(b"data: {}\n");
    }
    out.extend_from_slice(b"data:\n");
    for (key, value) in &intent.fields {
        out.extend_from_slice(b"  \"");
        out.extend_from_slice(config_key(key).as_bytes());
        out.extend_from_slice(b"\": ");
        push_quoted(out, value);
        out.push(b'\n');
    }
}

/// Our label, then the head of the annotations.
fn push_labels(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\n  labels:\n    ");
    out.extend_from_slice(MANAGED_BY.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(MANAGER.as_bytes());
    out.extend_from_slice(b"\n  annotations:\n");
}

/// The three annotations, one a line, each behind `indent` and ended by `eol`. The id comes first:
/// whatever precedes it depends on the target alone, by which a torn file is known as ours.
pub(super) fn push_stamp(out: &mut Vec<u8>, indent: &str, eol: &str, stamp: &Stamp<'_>) {
    for mark in Mark::ALL {
        out.extend_from_slice(indent.as_bytes());
        out.extend_from_slice(mark.key().as_bytes());
        out.extend_from_slice(b": ");
        mark.push_value(out, stamp);
        out.extend_from_slice(eol.as_bytes());
    }
}

/// One of the three annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Id,
    Sha,
    Revision,
}

impl Mark {
    pub(super) const ALL: [Mark; 3] = [Mark::Id, Mark::Sha, Mark::Revision];

    pub(super) const fn key(self) -> &'static str {
        match self {
            Mark::Id => INTENT_ID,
            Mark::Sha => INTENT_SHA256,
            Mark::Revision => REVISION,
        }
    }

    pub(super) fn push_value(self, out: &mut Vec<u8>, stamp: &Stamp<'_>) {
        let Sha(digest) = stamp.sha;
        out.push(b'"');
        match self {
            Mark::Id => push_hex(out, &stamp.id.0.to_be_bytes()),
            Mark::Sha => push_hex(out, digest),
            Mark::Revision => push_decimal(out, stamp.revision),
        }
        out.push(b'"');
    }
}

/// The kind as Kubernetes spells it.
pub(super) const fn api_kind(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Deployment => "Deployment",
        TargetKind::Statefulset => "StatefulSet",
        TargetKind::Daemonset => "DaemonSet",
        TargetKind::Service => "Service",
        TargetKind::Configuration => "ConfigMap",
    }
}

/// A key that Kubernetes takes (`[-._a-zA-Z0-9]+`, not beginning with `..`, not `.`, at most 253
/// bytes). A field name that is one already stays as it is; in others every forbidden byte becomes
/// `_xHH_`, reversibly: two field names never meet in one key.
pub(super) fn config_key(field: &str) -> Cow<'_, str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = field.as_bytes();
    let dots = field == "." || field.starts_with("..");
    if !bytes.is_empty() && bytes.len() <= MAX_KEY && !dots {
        let ambiguous = bytes.windows(2).any(|pair| pair == b"_x");
        if !ambiguous && bytes.iter().copied().all(allowed) {
            return Cow::Borrowed(field);
        }
    }
    let mut key = Vec::with_capacity(bytes.len() + 16);
    for (at, &byte) in bytes.iter().enumerate() {
        let opens_escape = byte == b'_' && bytes.get(at + 1) == Some(&b'x');
        if !allowed(byte) || opens_escape || (at == 0 && dots) {
            key.extend_from_slice(b"_x");
            push_hex(&mut key, &[byte]);
            key.push(b'_');
        } else {
            key.push(byte);
        }
    }
    if key.is_empty() {
        key.extend_from_slice(b"_x_");
    }
    if key.len() > MAX_KEY {
        key.truncate(MAX_KEY - 34);
        key.extend_from_slice(b"_x");
        push_hex(&mut key, &Sha::of(bytes).0[..16]);
    }
    Cow::Owned(String::from_utf8_lossy(&key).into_owned())
}
