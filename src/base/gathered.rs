//! Work that others hand things to, done for all of them at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Does `work`, each time one turn later than it is woken: whoever has something for it in this turn is heard too. A
/// connection that is woken by each of its streams so writes once for all of them, where the scheduler would run it after
/// the first.
pub async fn gathered<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    let mut is_due = false;
    poll_fn(|cx| {
        is_due = !is_due;
        if is_due {
            // From within, this puts the task behind all others that are to run.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        work.as_mut().poll(cx)
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::ready;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn what_many_hand_over_in_one_turn_is_taken_in_one() {
        let (hand, mut handed) = mpsc::unbounded_channel();
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let mut taken = 0;
        let work = tokio::spawn(gathered(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            while ready!(handed.poll_recv(cx)).is_some() {
                taken += 1;
            }
            Poll::Ready(taken)
        })));
        while polls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let each: Vec<_> = (0..16)
            .map(|_| {
                let hand = hand.clone();
                tokio::spawn(async move { hand.send(()).unwrap() })
            })
            .collect();
        drop(hand);
        for one in each {
            one.await.unwrap();
        }
        assert_eq!(work.await.unwrap(), 16);
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
