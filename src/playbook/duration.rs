//! Durations as playbooks write them: `90s`, `5m`, `1h30m`, `2d`.

use std::time::Duration;

/// The longest duration a playbook may write.
pub const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// Reads `90s`, `1h30m`, `250ms`: units `d h m s ms` in falling order, each once; over 0 and at most 31 days.
pub fn parse(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut from = 0;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = rest.get(..letters)?;
        rest = &rest[letters..];
        let place = from + UNITS[from..].iter().position(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(UNITS[place].1)?)?;
        from = place + 1;
    }
    let total = Duration::from_millis(total);
    (!total.is_zero() && total <= LONGEST).then_some(total)
}

/// Writes it the way [`parse`] reads it.
pub fn format(duration: Duration) -> String {
    let mut left = duration.as_millis();
    let mut text = String::new();
    for (name, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        if left >= size {
            text.push_str(&format!("{}{name}", left / size));
            left %= size;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_the_same() {
        for (text, ms) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("250ms", 250),
            ("1m1ms", 60_001),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(format(Duration::from_secs(90)), "1m30s");
        assert_eq!(parse(&format(LONGEST)), Some(LONGEST));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            "",
            "0s",
            "5",
            "m",
            "5 m",
            "1m1h",
            "1m1m",
            "32d",
            "-5m",
            "5M",
            "1.5h",
            "99999999999999999999s",
            "5w",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
