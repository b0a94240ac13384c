//! Work that may take as long as it likes, while something happens.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Does `work`, unless nothing wakes it for `time`: then it is dropped, and the answer is `None`.
pub async fn unless_idle<F: Future + Unpin>(time: Duration, mut work: F) -> Option<F::Output> {
    let mut woken = Instant::now();
    let mut alarm = pin!(tokio::time::sleep(time));
    poll_fn(|cx| {
        // First: what has come to its end needs no alarm.
        if let Poll::Ready(done) = Pin::new(&mut work).poll(cx) {
            return Poll::Ready(Some(done));
        }
        if alarm.as_mut().poll(cx).is_pending() {
            woken = Instant::now();
        } else if woken.elapsed() >= time {
            return Poll::Ready(None);
        } else {
            alarm.as_mut().reset(woken + time);
            let _ = alarm.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_while_it_is_woken_and_ends_when_it_is_not() {
        let begun = Instant::now();
        let busy = async {
            for _ in 0..10 {
                tokio::time::sleep(TIME * 9 / 10).await;
            }
            7
        };
        assert_eq!(unless_idle(TIME, pin!(busy)).await, Some(7));
        assert_eq!(begun.elapsed(), TIME * 9);
        let stuck = async {
            tokio::time::sleep(TIME / 2).await;
            std::future::pending::<()>().await;
        };
        let begun = Instant::now();
        assert_eq!(unless_idle(TIME, pin!(stuck)).await, None);
        // Found at the alarm after the last wake.
        assert!(begun.elapsed() < TIME * 2, "{:?}", begun.elapsed());
    }
}
