//! Policy documents and times as IAM writes them.

use chrono::{DateTime, Utc};

/// IAM answers policy documents percent-encoded; some doubles do not. A document begins with a brace, an encoded one with `%7B`.
pub(super) fn decoded(text: &str) -> String {
    if !text.trim_start().starts_with('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A time of the SDK as ours.
pub(super) fn time(at: &aws_smithy_types::DateTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.secs(), at.subsec_nanos())
}

/// Ours as the SDK's.
pub(super) fn sdk_time(at: DateTime<Utc>) -> aws_smithy_types::DateTime {
    aws_smithy_types::DateTime::from_secs_and_nanos(at.timestamp(), at.timestamp_subsec_nanos())
}

/// A field that says "not applicable" says nothing.
pub(super) fn said(text: &str) -> Option<String> {
    (!text.is_empty() && text != "N/A").then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_decoded_once_and_only_when_encoded() {
        assert_eq!(decoded("%7B%22a%22%3A%22%25x%22%7D"), r#"{"a":"%x"}"#);
        assert_eq!(decoded(r#"{"a":"%22"}"#), r#"{"a":"%22"}"#);
        assert_eq!(decoded("%7B%zz%4"), "{%zz%4");
    }

    #[test]
    fn times_go_there_and_back() {
        let at = DateTime::from_timestamp(1_795_577_222, 5_000_000).expect("a time");
        assert_eq!(time(&sdk_time(at)), Some(at));
    }
}
