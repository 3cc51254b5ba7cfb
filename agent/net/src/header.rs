//! What headers of responses mean.

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// Whether a list of codings names gzip without refusing it (RFC 9110, section 12.5.3).
pub(crate) fn names_gzip(text: &str) -> bool {
    text.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map(|weight| weight.trim().parse::<f32>());
        name.trim().eq_ignore_ascii_case("gzip")
            && weight.is_none_or(|weight| weight.is_ok_and(|weight| weight > 0.0))
    })
}

/// `Retry-After` in seconds: a number, or a date by the server's own clock, if it says what that is.
pub(crate) fn retry_after(text: &str, date: Option<&str>, now: Timestamp) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let parse = |text: &str| rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let from = date.and_then(parse).unwrap_or(now);
    u64::try_from(from.duration_until(parse(text)?).as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now = Timestamp::from_second(784_111_777).unwrap();
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let after = |text: &str, date: Option<&str>| retry_after(text, date, now);
        assert_eq!(after("120", None), Some(120));
        assert_eq!(after(" 5 ", Some(date)), Some(5));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT", None), Some(60));
        // By the clock of the server, whatever this device's says.
        assert_eq!(after("Sun, 06 Nov 1994 09:49:37 GMT", Some("Sun, 06 Nov 1994 09:49:07 GMT")), Some(30));
        for text in ["", "soon", "-5", "Sun, 06 Nov 1994 08:00:00 GMT"] {
            assert_eq!(after(text, None), None, "{text}");
        }
    }

    #[test]
    fn server_takes_gzip_if_it_names_it_and_does_not_refuse_it() {
        for (text, takes) in [
            ("gzip", true),
            ("zstd, GZIP;q=0.5", true),
            ("identity", false),
            ("", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000, br", false),
            ("gzip;q=much", false),
            ("xgzip", false),
        ] {
            assert_eq!(names_gzip(text), takes, "{text}");
        }
    }
}
