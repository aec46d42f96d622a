//! Reading UTC times in the two exact spellings that the format uses.

/// Returns milliseconds since 1970 of `2026-08-22T12:34:56.789Z`; any other spelling is `None`.
pub fn parse_millis(text: &str) -> Option<i64> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let digits = rest.strip_prefix('.')?.strip_suffix('Z')?;
    Some(parse_civil(seconds)? * 1000 + i64::from(fixed(digits, 3)?))
}

/// Returns seconds since 1970 of `2026-08-22T12:34:56Z`; any other spelling is `None`.
pub fn parse_seconds(text: &str) -> Option<i64> {
    parse_civil(text.strip_suffix('Z')?)
}

fn parse_civil(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.len() != 19 || !text.is_ascii() || marks.iter().any(|(at, mark)| bytes[*at] != *mark) {
        return None;
    }
    let part = |from: usize, to: usize| fixed(&text[from..to], to - from);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    valid.then(|| {
        days_since_epoch(year, month, day) * 86_400
            + i64::from(hour) * 3600
            + i64::from(minute) * 60
            + i64::from(second)
    })
}

fn fixed(text: &str, digits: usize) -> Option<u32> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u32) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

/// Days from 1970-01-01, counted by years that begin in March so that the leap day comes last.
fn days_since_epoch(year: u32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let month = (i64::from(month) + 9) % 12;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leaps + (153 * month + 2) / 5 + i64::from(day) - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_read() {
        assert_eq!(parse_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_seconds("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(
            parse_millis("2026-08-22T12:34:56.789Z"),
            Some(1_787_402_096_789)
        );
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "2026-08-22T12:34:56Z",
            "2026-08-22T12:34:56.7Z",
            "2026-02-29T12:34:56.789Z",
            "2026-08-22 12:34:56.789Z",
            "",
        ] {
            assert_eq!(parse_millis(text), None, "{text}");
        }
        assert_eq!(parse_seconds("2026-13-01T00:00:00Z"), None);
        assert_eq!(parse_seconds("2026-08-22T12:34:56+00:00"), None);
    }
}
