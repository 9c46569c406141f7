//! Numbers, hex and times as ASCII, appended to a buffer without allocation.

use jiff::tz::Offset;

use crate::clock::Wall;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two digits for each byte.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// `number` in decimal.
pub(super) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    push_padded(out, number, 1);
}

/// `number` in decimal, with zeros in front up to `width` digits.
pub(super) fn push_padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 {
        start -= 1;
        digits[start] = DIGITS[(number % 10) as usize];
        number /= 10;
    }
    out.extend_from_slice(&digits[start.min(digits.len() - width)..]);
}

/// The parts of a moment in UTC; a year is never negative on a [`Wall`].
fn parts(at: Wall) -> ([u64; 6], u64) {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
    let civil = Offset::UTC.to_datetime(moment);
    let (date, time) = (civil.date(), civil.time());
    let small = |part: i8| u64::from(part.unsigned_abs());
    let whole = [
        u64::from(date.year().unsigned_abs()),
        small(date.month()),
        small(date.day()),
        small(time.hour()),
        small(time.minute()),
        small(time.second()),
    ];
    (whole, u64::from(time.millisecond().unsigned_abs()))
}

/// RFC 3339 in UTC, to the second or the millisecond.
pub(super) fn push_time(out: &mut Vec<u8>, at: Wall, millis: bool) {
    let (whole, fraction) = parts(at);
    for (part, (width, after)) in
        whole.into_iter().zip([(4, "-"), (2, "-"), (2, "T"), (2, ":"), (2, ":"), (2, "")])
    {
        push_padded(out, part, width);
        out.extend_from_slice(after.as_bytes());
    }
    if millis {
        out.push(b'.');
        push_padded(out, fraction, 3);
    }
    out.push(b'Z');
}

/// `20261121-080000`.
pub(super) fn push_compact(out: &mut Vec<u8>, at: Wall) {
    let (whole, _) = parts(at);
    for (place, part) in whole.into_iter().enumerate() {
        if place == 3 {
            out.push(b'-');
        }
        push_padded(out, part, if place == 0 { 4 } else { 2 });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn times_are_spelled_as_the_clock_spells_them(at in 0i64..i64::MAX) {
            let at = Wall(at);
            prop_assert_eq!(written(|out| push_time(out, at, false)), at.seconds());
            prop_assert_eq!(written(|out| push_time(out, at, true)), at.millis());
            prop_assert_eq!(written(|out| push_compact(out, at)), at.compact());
        }

        #[test]
        fn numbers_are_spelled_in_decimal_and_hex(number: u64) {
            prop_assert_eq!(written(|out| push_decimal(out, number)), number.to_string());
            prop_assert_eq!(written(|out| push_hex(out, &number.to_be_bytes())), format!("{number:016x}"));
        }
    }

    #[test]
    fn zeros_fill_up_to_the_width() {
        assert_eq!(written(|out| push_padded(out, 7, 3)), "007");
        assert_eq!(written(|out| push_decimal(out, 0)), "0");
    }
}
