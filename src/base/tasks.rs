//! Every task is counted, told to stop, and waited for.

use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one running program. Cheap to clone; all clones are one set.
///
/// Stopping has two steps: [`stop`](Self::stop) asks (no new work, what runs may finish), and
/// [`finish`](Self::finish) waits up to a deadline and then ends what is left.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    ended: CancellationToken,
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
        let ended = self.ended.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = work => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// Asks every task to come to an end.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Resolves once [`stop`](Self::stop) was called.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// How many tasks run now.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Stops, waits up to `deadline` for the tasks to end, then drops those that have not.
    /// Returns how many had to be dropped.
    pub async fn finish(&self, deadline: Duration) -> usize {
        self.stop();
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tracker.len();
        self.ended.cancel();
        self.tracker.wait().await;
        left
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        self.spawn(async move {
            work.await;
        });
    }
}
