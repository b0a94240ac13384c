//! Whether another machine's clock and ours show the same time: where they do not, what was signed a moment ago is refused.

use http::header::DATE;
use http::{HeaderMap, StatusCode};
use std::time::{Duration, SystemTime};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Clocks may differ by this much, and a message may be on its way for as long.
const BORNE: Duration = Duration::from_secs(60);

/// How far the `Date` (RFC 9110 §6.6.1) of an answer that came `now` is ahead; `None` where it says nothing.
pub fn ahead(headers: &HeaderMap, now: SystemTime) -> Option<time::Duration> {
    let form =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = PrimitiveDateTime::parse(date, form).ok()?.assume_utc();
    Some(theirs - OffsetDateTime::from(now))
}

/// Whether such an answer may be a refusal of what was signed, or had as a token, for its time.
pub fn may_refuse(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    )
}

/// In words, how far the `Date` of an answer that came `now` is off; `None` where it is close or says nothing.
pub fn doubt(headers: &HeaderMap, now: SystemTime) -> Option<String> {
    let off = ahead(headers, now)?;
    if off.unsigned_abs() <= BORNE {
        return None;
    }
    let way = if off.is_negative() { "behind" } else { "ahead of" };
    let seconds = off.whole_seconds().unsigned_abs();
    Some(format!(
        "its clock is {seconds} seconds {way} this machine's, and signatures and tokens are good for a while only: is this \
         machine's clock right?"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_clock_that_is_off_is_told_of_and_which_way() {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let date = 784_111_777;
        let told = |text: &'static str, now: u64| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static(text));
            doubt(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(now))
        };
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(told(text, date), None);
        assert_eq!(told(text, date + 60), None);
        assert!(told(text, date + 600).unwrap().contains("600 seconds behind"));
        assert!(told(text, date - 61).unwrap().contains("61 seconds ahead of"));
        assert_eq!(told("yesterday", date + 600), None);
    }
}
