//! Every task is counted, told to stop, and waited for.

use futures_util::FutureExt as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

/// The tasks of one running program. Cheap to clone; all clones are one set.
///
/// Stopping has two steps: [`stop`](Self::stop) asks (no new work, what runs may finish), and
/// [`finish`](Self::finish) waits up to a deadline and then ends what is left.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Set>);

#[derive(Debug, Default)]
struct Set {
    tracker: TaskTracker,
    stopping: Signal,
    ended: Signal,
}

/// Comes once. Looking out for it is one load, as every task does so each time that it is polled.
#[derive(Debug, Default)]
struct Signal {
    came: AtomicBool,
    waiting: Notify,
}

impl Signal {
    fn give(&self) {
        self.came.store(true, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    fn has_come(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    async fn wait(&self) {
        let mut notified = pin!(self.waiting.notified());
        let mut registered: Option<Waker> = None;
        poll_fn(|cx| {
            if !self.has_come() && !registered.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                registered = Some(cx.waker().clone());
                // Whoever is told from here on has seen that it came.
                let _ = notified.as_mut().poll(cx);
            }
            if self.has_come() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` as a task of this set; it is dropped when the deadline of
    /// [`finish`](Self::finish) passes.
    pub fn spawn<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Boxed at once: it may be some kilobytes long, and each wrapper would copy it once more.
        self.run(Box::pin(work));
    }

    /// Runs work that ends with another task of this set, as a stream does with its connection, and so need not look out
    /// for the deadline: for thousands of short ones a second, that would be their largest cost.
    pub fn spawn_under<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tracker.spawn(work);
    }

    fn run(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let set = Arc::clone(&self.0);
        self.0.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = work => {}
                () = set.ended.wait() => {}
            }
        });
    }

    /// Asks every task to come to an end.
    pub fn stop(&self) {
        self.0.stopping.give();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.has_come()
    }

    /// Resolves once [`stop`](Self::stop) was called.
    pub async fn stopping(&self) {
        self.0.stopping.wait().await;
    }

    /// Whether what had not ended by the deadline of [`finish`](Self::finish) is being dropped.
    pub fn are_cut(&self) -> bool {
        self.0.ended.has_come()
    }

    /// How many tasks run now.
    pub fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// Stops, waits up to `deadline` for the tasks to end, then drops those that have not.
    /// Returns how many had to be dropped.
    pub async fn finish(&self, deadline: Duration) -> usize {
        self.stop();
        let Set { tracker, ended, .. } = &*self.0;
        tracker.close();
        if tokio::time::timeout(deadline, tracker.wait()).await.is_ok() {
            return 0;
        }
        let left = tracker.len();
        ended.give();
        tracker.wait().await;
        left
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        self.spawn(work.map(drop));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn whoever_waits_for_the_stop_and_whoever_comes_later_hear_of_it() {
        let tasks = Tasks::new();
        let (ended, end) = oneshot::channel();
        let waiting = tasks.clone();
        tasks.spawn(async move {
            waiting.stopping().await;
            ended.send(()).unwrap();
        });
        tokio::task::yield_now().await;
        assert!(!tasks.is_stopping());
        tasks.stop();
        end.await.unwrap();
        tasks.stopping().await;
        assert!(tasks.is_stopping());
    }

    #[tokio::test]
    async fn a_wait_that_moves_to_another_task_is_still_woken() {
        let tasks = Tasks::new();
        let moved = tasks.clone();
        let mut wait = Box::pin(async move { moved.stopping().await });
        assert!(wait.as_mut().now_or_never().is_none());
        let (ended, end) = oneshot::channel();
        tasks.spawn(async move {
            wait.await;
            ended.send(()).unwrap();
        });
        tokio::task::yield_now().await;
        tasks.stop();
        end.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_by_itself_is_dropped_at_the_deadline() {
        let tasks = Tasks::new();
        let (held, dropped) = oneshot::channel::<()>();
        tasks.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tasks.spawn(async {});
        assert_eq!(tasks.finish(Duration::from_secs(5)).await, 1);
        assert!(dropped.await.is_err());
    }
}
