//! The log as the rest of the program sees it: a place to leave a record and go on.

use super::record::{Outcome, Record};
use super::writer::{self, Message, Writer};
use super::{Error, file::Sink};
use crate::base::host::Host;
use crate::config::model::{AuditSpec, WhenFull};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

/// The audit log. Cheap to clone; all clones are one log.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Thread,
    ended: Mutex<Receiver<()>>,
    when_full: WhenFull,
}

/// What the log and its thread both touch.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Records in the queue.
    pub(super) queued: AtomicUsize,
    /// Records that were never written.
    pub(super) lost: AtomicU64,
    /// Those of them that no line has told of yet.
    pub(super) unsaid: AtomicU64,
    /// Whether the last write failed.
    pub(super) failing: AtomicBool,
    /// Asked to open the file again.
    pub(super) reopen: AtomicBool,
    /// Asked to write what is there and end.
    pub(super) finish: AtomicBool,
    /// The newest records, oldest first.
    pub(super) tail: Mutex<VecDeque<Arc<Record>>>,
    ok: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    first_denial: OnceLock<Denial>,
}

/// How many exchanges ended how, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Were allowed and went through.
    pub allowed: u64,
    /// Were refused.
    pub denied: u64,
    /// Were allowed and broke.
    pub failed: u64,
    /// The first that was refused.
    pub first_denial: Option<Denial>,
}

/// What was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The code that the agent was told.
    pub code: &'static str,
    /// Where it asked to go.
    pub host: Option<Host>,
    /// What it asked with.
    pub method: Option<Box<str>>,
    /// More on that.
    pub reason: Option<Box<str>>,
}

impl Log {
    /// Opens the sink and starts the thread that writes to it.
    ///
    /// # Errors
    /// When the sink cannot be opened, or the thread not started.
    pub fn open(spec: &AuditSpec) -> Result<Self, Error> {
        let sink = Sink::open(&spec.sink)?;
        let shared = Arc::new(Shared::default());
        let (queue, lines) = sync_channel(writer::QUEUE);
        let (end, ended) = sync_channel::<()>(0);
        let mut writer = Writer::new(lines, sink, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("keyferry-audit".into())
            .spawn(move || {
                let _end = end; // closed when the thread ends, however it ends
                writer.run();
            })
            .map_err(Error::Thread)?;
        Ok(Self {
            inner: Arc::new(Inner {
                queue,
                shared,
                thread: thread.thread().clone(),
                ended: Mutex::new(ended),
                when_full: spec.when_full,
            }),
        })
    }

    /// Leaves a record to be written. Never waits; one that finds no room is counted as lost.
    pub fn write(&self, mut record: Record) {
        record.bound();
        let shared = &self.inner.shared;
        shared.count(&record);
        shared.queued.fetch_add(1, Ordering::Relaxed);
        if self.inner.queue.try_send(Message::Line(Arc::new(record))).is_err() {
            shared.queued.fetch_sub(1, Ordering::Relaxed);
            shared.lost.fetch_add(1, Ordering::Relaxed);
            shared.unsaid.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a new exchange may begin: false only under [`WhenFull::Refuse`], while the sink fails
    /// or lags. Half the queue stays free for the exchanges that are under way.
    pub fn accepts(&self) -> bool {
        match self.inner.when_full {
            WhenFull::Count => true,
            WhenFull::Refuse => {
                let shared = &self.inner.shared;
                !shared.failing.load(Ordering::Relaxed) && shared.queued.load(Ordering::Relaxed) < writer::QUEUE / 2
            }
        }
    }

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.inner.shared.failing.load(Ordering::Relaxed)
    }

    /// How many records were never written.
    pub fn lost(&self) -> u64 {
        self.inner.shared.lost.load(Ordering::Relaxed)
    }

    /// How many exchanges ended how.
    pub fn totals(&self) -> Totals {
        let shared = &self.inner.shared;
        Totals {
            allowed: shared.ok.load(Ordering::Relaxed),
            denied: shared.denied.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            first_denial: shared.first_denial.get().cloned(),
        }
    }

    /// The newest records, at most `count` of the thousand that are kept, oldest first.
    pub fn tail(&self, count: usize) -> Vec<Arc<Record>> {
        let tail = self.inner.shared.tail.lock();
        tail.iter().skip(tail.len().saturating_sub(count)).cloned().collect()
    }

    /// Opens the file's path again, soon: for programs that move logs away and send a signal.
    pub fn reopen(&self) {
        self.inner.shared.reopen.store(true, Ordering::Release);
        self.inner.wake();
    }

    /// Writes what waits and ends the thread; waits no longer than `deadline`. Returns how many
    /// records were lost in all. What is written later is lost.
    pub fn finish(&self, deadline: Duration) -> u64 {
        self.inner.shared.finish.store(true, Ordering::Release);
        self.inner.wake();
        let ended = self.inner.ended.lock();
        // Nothing is ever sent: this returns when the thread lets go of the other end.
        let _ = ended.recv_timeout(deadline);
        let stuck = self.inner.shared.queued.load(Ordering::Relaxed) as u64;
        self.lost() + stuck
    }
}

impl Inner {
    /// The thread waits for the queue, or, while the sink fails, for a moment to pass.
    fn wake(&self) {
        // A full queue needs no wake: the thread has enough to read.
        let _ = self.queue.try_send(Message::Wake);
        self.thread.unpark();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.finish.store(true, Ordering::Release);
        self.wake();
    }
}

impl Shared {
    fn count(&self, record: &Record) {
        let counter = match record.outcome {
            Outcome::Ok => &self.ok,
            Outcome::Denied => &self.denied,
            Outcome::Failed => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if record.outcome == Outcome::Denied {
            self.first_denial.get_or_init(|| Denial {
                code: record.code,
                host: record.target.as_ref().map(|target| target.host.clone()),
                method: record.method.clone(),
                reason: record.reason.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
