//! Times as text: one form everywhere, so that bytes are stable.

use chrono::{DateTime, SecondsFormat, Utc};

/// RFC 3339 in UTC with milliseconds: `2026-11-24T23:55:10.123Z`.
pub fn millis(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// RFC 3339 in UTC with whole seconds: `2026-11-24T23:55:10Z`.
pub fn seconds(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A span for people: `850 ms`, `4.2 s`, `3 min 20 s`, `2 h 05 min`.
pub fn span(ms: i64) -> String {
    let (sign, ms) = if ms < 0 { ("-", -ms) } else { ("", ms) };
    let s = ms / 1000;
    match s {
        0 => format!("{sign}{ms} ms"),
        1..=59 => format!("{sign}{}.{} s", s, (ms % 1000) / 100),
        60..=3599 => format!("{sign}{} min {:02} s", s / 60, s % 60),
        _ => format!("{sign}{} h {:02} min", s / 3600, (s % 3600) / 60),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_read_like_people_say_them() {
        for (ms, text) in [
            (850, "850 ms"),
            (4_200, "4.2 s"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 05 min"),
            (-1500, "-1.5 s"),
        ] {
            assert_eq!(super::span(ms), text);
        }
    }
}
