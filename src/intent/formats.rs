//! The string forms that fields are held to: names, RFC 3339 times.

use crate::clock::Wall;

/// The longest DNS-1123 label.
const LONGEST_LABEL: usize = 63;

/// A DNS-1123 label: 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && is_name(text, |byte| byte == b'-')
}

/// The name part of a Kubernetes label key: as [`is_label`] with dots, any length.
pub(super) fn is_dotted_name(text: &str) -> bool {
    is_name(text, |byte| byte == b'-' || byte == b'.')
}

fn is_name(text: &str, inner: impl Fn(u8) -> bool) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || inner(*byte))
}

/// A Kubernetes label value: at most 63 of `A-Za-z0-9._-`, alphanumeric at both ends, or empty.
pub(super) fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= LONGEST_LABEL
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// A Kubernetes label key: at most 253 bytes, one dotted name or two with `/` between.
pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    text.len() <= 253 && prefix.is_none_or(is_dotted_name) && is_dotted_name(name)
}

/// An identifier: 1 to `most` of `A-Za-z0-9_-`.
pub(super) fn is_identifier(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// An RFC 3339 date and time, as JSON Schema's `date-time`: `T`, a zone, a leap second only where UTC
/// has one. Moments outside 1677 to 2262 become the nearest that [`Wall`] can hold.
pub(super) fn date_time(text: &str) -> Option<Wall> {
    let (date, rest) = text.as_bytes().split_first_chunk::<10>()?;
    let (clock, rest) = rest.split_first_chunk::<9>()?;
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = date else { return None };
    let &[b'T' | b't', h0, h1, b':', n0, n1, b':', s0, s1] = clock else { return None };
    let year = i64::from(two(y0, y1)?) * 100 + i64::from(two(y2, y3)?);
    let (month, day) = (two(m0, m1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(n0, n1)?, two(s0, s1)?);
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let minutes = i64::from(hour) * 60 + i64::from(minute) - offset(zone)?;
    if second == 60 && minutes.rem_euclid(24 * 60) != 24 * 60 - 1 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + minutes * 60 + i64::from(second);
    Some(Wall(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}

/// Two decimal digits.
fn two(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

/// `.` and any number of digits, or nothing: the nanoseconds and what follows.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let end = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let nanos = (0..9).fold(0, |sum, place| {
        let digit = digits[..end].get(place).map_or(0, |digit| digit - b'0');
        sum * 10 + i64::from(digit)
    });
    (end > 0).then_some((nanos, &digits[end..]))
}

/// Minutes east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            let east = i64::from(hours) * 60 + i64::from(minutes);
            (hours <= 23 && minutes <= 59).then_some(if sign == b'+' { east } else { -east })
        }
        _ => None,
    }
}

const fn days_in(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the
/// leap day comes last, and in eras of 400.
const fn days_since_1970(year: i64, month: u8, day: u8) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month as i64 + 9) % 12;
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day as i64 - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_means_the_same_moment_as_in_the_clock() {
        for text in
            ["2026-11-21T08:00:00Z", "2024-02-29T23:59:59.123456789+05:30", "1969-12-31T23:00:00-01:00"]
        {
            assert_eq!(date_time(text), Wall::parse(text), "{text}");
        }
    }

    #[test]
    fn a_time_that_no_wall_clock_will_show_is_refused() {
        for text in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T08:00:60Z",
            "2026-11-21T08:00:00",
            "2026-11-21 08:00:00Z",
            "2026-11-21T08:00:00.Z",
            "2026-11-21T08:00:00+0100",
            "2026-11-21T08:00:00Z ",
            "",
        ] {
            assert_eq!(date_time(text), None, "{text}");
        }
        assert!(date_time("2016-12-31T23:59:60Z").is_some());
        assert!(date_time("2017-01-01T05:29:60+05:30").is_some());
    }

    #[test]
    fn a_time_beyond_2262_is_the_last_moment_instead_of_none() {
        assert_eq!(date_time("9999-12-31T23:59:59Z"), Some(Wall(i64::MAX)));
        assert_eq!(date_time("0001-01-01T00:00:00Z"), Some(Wall(i64::MIN)));
    }

    #[test]
    fn a_label_is_1_to_63_of_the_right_letters() {
        for good in ["a", "0", "odu-high-phy", &"a".repeat(63)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "../x", "a\n", "ä", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
    }
}
