//! Time spans as people type them in options: `5s`, `500ms`, `2m`, or a number of seconds.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Reads a time span. A number without a unit counts seconds.
///
/// # Errors
/// The text is no time span, or is not above 0. The error continues clap's own sentence, which shows the text.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str =
        "expected a time span above 0, such as 5s, 500ms, '1m 30s', '1d 2h', or 5 for seconds";
    let text = text.trim();
    let is_count = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let span = match is_count {
        true => text.parse().ok().map(Duration::from_secs),
        false => {
            let span: Option<Span> = text.parse().ok();
            // A day has 24 hours here; months and years have no such length.
            let span =
                span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
            span.and_then(|span| Duration::try_from(span).ok())
        }
    };
    span.filter(|span| !span.is_zero())
        .ok_or_else(|| EXPECTED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit_or_counts_seconds() {
        for (text, expected_ms) in [
            ("5", 5_000),
            ("5s", 5_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1m 30s", 90_000),
            ("1.5s", 1_500),
            ("1h", 3_600_000),
            ("1d 2h", 93_600_000),
            ("1w", 604_800_000),
        ] {
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert_eq!(parse("9999999999"), Ok(Duration::from_secs(9_999_999_999)));
    }

    #[test]
    fn any_other_text_is_an_error_with_examples() {
        for text in [
            "",
            " ",
            "0",
            "0s",
            "-5s",
            "-5",
            "5s ago",
            "5x",
            "soon",
            "1e400s",
            "99999999999999999999",
            "1 month",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("500ms"), "{error}");
        }
    }
}
