//! Moments as people type and read them: `--since 10m`, `--until 17:30`, and the short times of a terminal.
//!
//! A pipe gets times as RFC 3339 in UTC, so that texts sort in time order. A terminal gets the local time.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::time_span;

/// Reads a moment: a time span before `now`, a time of `now`'s day, or a date and time. Without an offset it is local.
///
/// # Errors
/// The text is none of these. The error continues clap's own sentence, which shows the text.
pub(super) fn parse_at(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    const EXPECTED: &str = "expected a time span before now, such as 10m or 2h, or a time, such as 17:30, 2026-11-30 17:30 or \
         2026-11-30T17:30:00Z";
    let text = text.trim();
    if let Ok(span) = time_span::parse(text.trim_end_matches("ago").trim_end()) {
        let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        return Ok(now.timestamp().checked_sub(span).unwrap_or(Timestamp::MIN));
    }
    if let Ok(exact) = text.parse::<Timestamp>() {
        return Ok(exact);
    }
    // The text of a date and a time would be read as a time, too.
    let local = match text.parse::<DateTime>() {
        Ok(date) => Some(date),
        Err(_) => text
            .parse::<Time>()
            .ok()
            .map(|time| now.date().to_datetime(time)),
    };
    let zone = now.time_zone().clone();
    let found = local.and_then(|local| local.to_zoned(zone).ok());
    found
        .map(|found| found.timestamp())
        .ok_or_else(|| EXPECTED.to_owned())
}

/// Reads a moment beside the present one, as clap wants it.
///
/// # Errors
/// See [`parse_at`].
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    parse_at(text, &Zoned::now())
}

/// Formats a time for a terminal: local, to the second, always of the same width.
pub(super) fn short(time: Timestamp, zone: &TimeZone) -> String {
    let local = time.to_zoned(zone.clone());
    local.strftime("%m-%d %H:%M:%S").to_string()
}

/// Formats a time for a terminal: local, to the millisecond, always of the same width.
pub(super) fn precise(time: Timestamp, zone: &TimeZone) -> String {
    let local = time.to_zoned(zone.clone());
    local.strftime("%m-%d %H:%M:%S%.3f").to_string()
}

/// Formats a time for a pipe: UTC, to the millisecond.
pub(super) fn long(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-30T17:45:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn a_moment_is_a_span_a_time_or_a_date() {
        for (text, expected) in [
            ("10m", "2026-11-30T16:35:00Z"),
            ("2h ago", "2026-11-30T14:45:00Z"),
            ("90", "2026-11-30T16:43:30Z"),
            ("17:30", "2026-11-30T16:30:00Z"),
            ("2026-11-29", "2026-11-28T23:00:00Z"),
            ("2026-11-29 17:30", "2026-11-29T16:30:00Z"),
            ("2026-11-29T17:30:00Z", "2026-11-29T17:30:00Z"),
            ("2026-11-29T17:30:00-02:00", "2026-11-29T19:30:00Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(parse_at(text, &now()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn any_other_text_is_an_error_with_examples() {
        for text in ["", "soon", "25:00", "2026-13-01", "-5m", "10 parsecs"] {
            let error = parse_at(text, &now()).unwrap_err();
            assert!(error.contains("17:30"), "{text}: {error}");
        }
    }

    #[test]
    fn a_terminal_shows_local_time_and_a_pipe_utc() {
        let time: Timestamp = "2026-11-30T23:59:59.5Z".parse().unwrap();
        assert_eq!(short(time, now().time_zone()), "12-01 00:59:59");
        assert_eq!(precise(time, now().time_zone()), "12-01 00:59:59.500");
        assert_eq!(long(time), "2026-11-30T23:59:59.500Z");
    }
}
