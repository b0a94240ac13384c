//! The clocks of hosts that refused a signature for its time: what is signed for them next is signed by these.

use crate::base::clock;
use crate::base::host::Target;
use http::Response;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// How far each such clock is ahead of this machine's.
#[derive(Debug, Default)]
pub(super) struct Clocks(Mutex<HashMap<Target, time::Duration>>);

impl Clocks {
    /// The time to sign with for this host.
    pub(super) fn now(&self, target: &Target) -> OffsetDateTime {
        let now = OffsetDateTime::from(SystemTime::now());
        let ahead = self.0.lock().get(target).copied().unwrap_or_default();
        now.checked_add(ahead).unwrap_or(now)
    }

    /// Learns from an answer to what was signed, which came from the host itself. One that is not off any more is forgotten.
    pub(super) fn heed<B>(&self, target: &Target, answer: &Response<B>) {
        if !clock::may_refuse(answer.status()) {
            return;
        }
        let Some(ahead) = clock::ahead(answer.headers(), SystemTime::now()) else {
            return;
        };
        let mut known = self.0.lock();
        match ahead.unsigned_abs() {
            off if off <= BORNE => drop(known.remove(target)),
            off if off <= FARTHEST && (known.len() < MOST || known.contains_key(target)) => {
                known.insert(target.clone(), ahead);
            }
            _ => {}
        }
    }
}

/// AWS takes what was signed so long ago, or is still to come.
const BORNE: Duration = Duration::from_secs(300);
/// A host is not believed to be farther off: what is signed for a time to come is good until then.
const FARTHEST: Duration = Duration::from_secs(3600);
/// Hosts at most.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_clock_is_believed_up_to_an_hour_and_forgotten_when_it_is_right_again() {
        let (clocks, target) = (Clocks::default(), Target::parse("a.test:443", None).unwrap());
        let form = time::macros::format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let heed = |status: u16, seconds: i64| {
            let date = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
            let answer = Response::builder().status(status);
            let answer = answer.header("date", date.format(form).unwrap()).body(()).unwrap();
            clocks.heed(&target, &answer);
            (clocks.now(&target) - OffsetDateTime::now_utc()).whole_minutes()
        };
        assert_eq!(heed(200, 1230), 0);
        assert_eq!(heed(403, 1230), 20);
        assert_eq!(heed(403, 4000), 20);
        assert_eq!(heed(400, -630), -10);
        assert_eq!(heed(401, 10), 0);
    }
}
