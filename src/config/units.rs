//! Durations (`250ms`, `1m30s`, `30d`) and sizes (`256KiB`, `1MiB`) as text, both ways.
//!
//! Arithmetic is exact. A duration is at most 2^64 - 1 ns (584 years), so that its nanoseconds
//! always fit the clocks; what lies beyond is no duration.

use std::time::Duration;

/// Nanoseconds per unit, longest first; printing uses the first seven.
const TIME: [(&str, u64); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("µs", 1_000),
];

/// Bytes per unit, largest first.
const BYTES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads numbers with units (`d h m s ms us µs ns`), one after the other and each with an optional
/// decimal fraction, or a bare `0`. `None` for anything else, for negative and for too long times.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c| !c.is_ascii_digit() && c != '.');
        let (_, nanos) = TIME.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *nanos)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(total))
}

/// `text` before and after the first character that does not `belong`.
fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// A decimal `number` times `unit`, cut to whole nanoseconds.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // No unit has more than 14 digits of nanoseconds: what follows cannot change the result.
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit) / scale;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

/// The shortest exact spelling: `1m30s`, `30d`, `0s`.
pub fn show_duration(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, nanos) in &TIME[..7] {
        if rest >= *nanos {
            text.push_str(&format!("{}{name}", rest / nanos));
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Reads a whole number of `B KiB MiB GiB TiB`, or a bare `0`. `None` for anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, unit) = split(text, |c| c.is_ascii_digit());
    let (_, bytes) = BYTES.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*bytes)
}

/// The largest unit that divides it: `256KiB`, `1537B`, `0B`.
pub fn show_size(size: u64) -> String {
    let fitting = BYTES.iter().find(|(_, bytes)| size >= *bytes && size.is_multiple_of(*bytes));
    let (name, bytes) = fitting.unwrap_or(&("B", 1));
    format!("{}{name}", size / bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_spellings_of_the_contract_are_read() {
        let seconds = Duration::from_secs;
        for (text, time) in [
            ("250ms", Duration::from_millis(250)),
            ("5s", seconds(5)),
            ("1m30s", seconds(90)),
            ("30d", seconds(30 * 86_400)),
            ("0", seconds(0)),
            ("0s", seconds(0)),
            ("1.5s", Duration::from_millis(1500)),
            ("0.5d", seconds(43_200)),
            ("3µs", Duration::from_micros(3)),
        ] {
            assert_eq!(parse_duration(text), Some(time), "{text}");
        }
        for (text, size) in [("256KiB", 262_144), ("1MiB", 1 << 20), ("0", 0), ("17B", 17), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_and_no_size_is_not_guessed_at() {
        for text in [
            "",
            "5",
            "5 bananas",
            "-5s",
            "+5s",
            "5 s",
            ".s",
            "5.s",
            ".5s",
            "1..5s",
            "s",
            "5sec",
            "600y",
            "1e3s",
            "213504d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["", "5", "1MB", "1 MiB", "-1B", "1.5MiB", "MiB", "16777216TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back_the_same(nanos in any::<u64>()) {
            let time = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&show_duration(time)), Some(time));
        }

        #[test]
        fn a_printed_size_reads_back_the_same(size in any::<u64>(), shift in 0_u32..50) {
            let size = size >> shift << shift;
            prop_assert_eq!(parse_size(&show_size(size)), Some(size));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in ".*") {
            let _ = (parse_duration(&text), parse_size(&text));
        }

        #[test]
        fn no_number_makes_the_readers_panic(text in "[0-9.]{0,40}(d|ms|TiB)?") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
