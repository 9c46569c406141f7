//! Documents to drop.

/// A flat scaling intent in namespace `ran-a`.
pub(crate) fn scale(target: &str, replicas: u32) -> Vec<u8> {
    intent("ran-a", target, replicas)
}

/// A flat scaling intent.
pub(crate) fn intent(namespace: &str, target: &str, replicas: u32) -> Vec<u8> {
    format!(
        "{{\"intent_type\": \"scaling\", \"target\": \"{target}\", \"namespace\": \"{namespace}\", \
         \"replicas\": {replicas}}}\n"
    )
    .into_bytes()
}

/// The same document with blanks inside, `size` bytes long.
pub(crate) fn padded(target: &str, replicas: u32, size: usize) -> Vec<u8> {
    let mut bytes = scale(target, replicas);
    let blanks = size.checked_sub(bytes.len()).expect("large enough for the document");
    bytes.splice(1..1, std::iter::repeat_n(b' ', blanks));
    bytes
}
