//! The thread that writes. It alone touches the sink, so lines are never torn or mixed.

use super::file::Sink;
use super::line;
use super::log::Shared;
use super::record::{Record, stamp};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, SystemTime};

/// Records that may wait.
pub(super) const QUEUE: usize = 8192;

/// Records kept in memory for the operator.
pub(super) const TAIL: usize = 1000;

/// Bytes gathered before they are written, when more lines wait.
const BATCH: usize = 64 * 1024;

/// After a write, for more lines to come: one write then does for all of them, and whoever leaves one need not wake
/// this thread.
const GATHER: Duration = Duration::from_millis(5);

/// Between two tries at a sink that fails.
const RETRY: Duration = Duration::from_millis(250);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Write this.
    Line(Arc<Record>),
    /// Look at the flags.
    Wake,
}

pub(super) struct Writer {
    queue: Receiver<Message>,
    sink: Sink,
    shared: Arc<Shared>,
    /// Whole lines that are not written yet.
    pending: Vec<u8>,
    line: Vec<u8>,
    /// A failed turning-over is tried again only once this much more was written.
    patience: usize,
}

impl Writer {
    pub(super) fn new(queue: Receiver<Message>, sink: Sink, shared: Arc<Shared>) -> Self {
        Self {
            queue,
            sink,
            shared,
            pending: Vec::with_capacity(BATCH),
            line: Vec::new(),
            patience: 0,
        }
    }

    /// Writes until asked to finish and nothing waits.
    pub(super) fn run(&mut self) {
        loop {
            let idle = self.fill();
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            let more = self.pending.len() >= BATCH;
            self.flush();
            let finish = self.shared.finish.load(Ordering::Acquire);
            match (self.pending.is_empty(), finish) {
                (true, true) if idle => return,
                (true, _) if finish || more => {}
                (true, _) => std::thread::park_timeout(GATHER),
                (false, true) => return self.give_up(),
                (false, false) => std::thread::park_timeout(RETRY),
            }
        }
    }

    /// Gathers lines, waiting for one unless some are pending or the end has come. True when there
    /// was none.
    fn fill(&mut self) -> bool {
        if !self.pending.is_empty() {
            return false;
        }
        let mut idle = true;
        if !self.shared.finish.load(Ordering::Acquire) {
            match self.queue.recv() {
                Ok(message) => idle &= !self.take(message),
                Err(_) => self.shared.finish.store(true, Ordering::Release),
            }
        }
        while self.pending.len() < BATCH {
            match self.queue.try_recv() {
                Ok(message) => idle &= !self.take(message),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.say_losses();
        idle
    }

    /// True when it was a line.
    fn take(&mut self, message: Message) -> bool {
        let Message::Line(record) = message else { return false };
        self.shared.queued.fetch_sub(1, Ordering::Relaxed);
        self.line.clear();
        line::write(&record, &mut self.line);
        self.turn_over();
        self.pending.extend_from_slice(&self.line);
        let mut tail = self.shared.tail.lock();
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(record);
        true
    }

    /// Starts a new file when the line at hand would make this one too long.
    fn turn_over(&mut self) {
        self.patience = self.patience.saturating_sub(self.line.len());
        if self.patience > 0 || !self.sink.is_full_for(self.pending.len() + self.line.len()) {
            return;
        }
        self.flush();
        if self.pending.is_empty()
            && let Err(error) = self.sink.rotate()
        {
            tracing::warn!(%error, "the audit log could not be turned over; it goes on in the same file");
            self.patience = 1024 * 1024;
        }
    }

    fn say_losses(&mut self) {
        // Half a line is a record that was never written, whoever was to write it.
        let torn = self.sink.torn();
        self.shared.lost.fetch_add(torn, Ordering::Relaxed);
        let lost = torn + self.shared.unsaid.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let time = stamp(SystemTime::now());
            // Writing to a vector cannot fail.
            let _ = writeln!(self.pending, r#"{{"time":"{time}","lost":{lost}}}"#);
        }
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let (done, result) = self.sink.write(&self.pending);
        self.pending.drain(..done);
        match result {
            Ok(()) => {
                if self.shared.failing.swap(false, Ordering::Relaxed) {
                    let lost = self.shared.lost.load(Ordering::Relaxed);
                    tracing::info!(lost, "the audit log is being written again");
                }
            }
            Err(error) => {
                if !self.shared.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the audit log cannot be written; make room, or `audit` names a better place");
                }
            }
        }
    }

    fn reopen(&mut self) {
        if let Err(error) = self.sink.reopen() {
            tracing::error!(%error, "the audit log could not be opened again; it goes on in the old file");
        }
    }

    /// Counts what will never be written.
    fn give_up(&mut self) {
        let mut lost = memchr::memchr_iter(b'\n', &self.pending).count() as u64;
        for message in self.queue.try_iter() {
            if let Message::Line(_) = message {
                self.shared.queued.fetch_sub(1, Ordering::Relaxed);
                lost += 1;
            }
        }
        self.shared.lost.fetch_add(lost, Ordering::Relaxed);
    }
}
