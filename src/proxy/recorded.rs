//! A reply's body, which carries the record: when it ends, however it ends, one line is written.

use super::fault::Fault;
use super::halfclose::Ends;
use super::hygiene;
use super::live::Proxy;
use super::share::Taken;
use crate::audit::{Log, Outcome, Record};
use crate::base::body::{Body, BoxError};
use crate::base::tasks::Tasks;
use crate::metrics::{Active, Metrics, RuleMetrics};
use crate::net::{self, Lease};
use crate::scrub::Unscrubbable;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// One exchange's record, written when this is dropped.
#[derive(Debug)]
pub struct Entry {
    /// What will be written.
    pub record: Box<Record>,
    /// When the exchange began.
    pub start: Instant,
    /// Body bytes from the agent so far.
    pub bytes_in: Arc<AtomicU64>,
    /// Traces removed from the reply so far.
    pub scrubbed: Arc<AtomicU64>,
    /// The counters of the rule that decided.
    pub rule: Option<Arc<RuleMetrics>>,
    log: Log,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    /// Whether it is known how it ended; until then the agent may be gone.
    settled: bool,
    discarded: bool,
    /// Ends, with the exchange, what it held back.
    pub ends: Option<Ends>,
    /// Its place among the agent's requests.
    pub place: Option<Taken>,
    _active: Active,
}

impl Entry {
    /// Begins an exchange.
    pub fn begin(proxy: &Proxy) -> Self {
        Self {
            record: Box::new(Record::begin(super::connection::request_id())),
            start: Instant::now(),
            bytes_in: Arc::default(),
            scrubbed: Arc::default(),
            rule: None,
            log: proxy.log.clone(),
            metrics: Arc::clone(&proxy.metrics),
            tasks: proxy.tasks.clone(),
            settled: false,
            discarded: false,
            ends: None,
            place: None,
            _active: proxy.metrics.exchanging(),
        }
    }

    /// Notes that it came to its end.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// Notes how it failed. The first failure stands.
    pub fn failed(&mut self, outcome: Outcome, code: &'static str, reason: Option<String>) {
        self.settled = true;
        if self.record.outcome != Outcome::Ok {
            return;
        }
        self.record.outcome = outcome;
        // What breaks once everything is being dropped breaks because of that, whichever end is dropped first.
        let cut = outcome == Outcome::Failed && self.tasks.are_cut();
        self.record.code = if cut { STOPPED } else { code };
        self.record.reason = if cut {
            Some(OUT_OF_TIME.into())
        } else {
            reason.map(Into::into)
        };
    }

    /// Notes a fault, and the rule that decided.
    pub fn faulted(&mut self, fault: &mut Fault) {
        let reason = fault.cause.clone().unwrap_or_else(|| fault.message.clone());
        self.failed(fault.outcome, fault.code, Some(reason));
        match &fault.rule {
            Some(rule) => self.record.rule = Some(Arc::clone(rule)),
            None => fault.rule.clone_from(&self.record.rule),
        }
        self.rule = fault.rule.as_ref().map(|rule| self.metrics.for_rule(rule));
    }

    /// Writes nothing: a CONNECT that only opens the way for exchanges of their own is none itself.
    pub fn discard(mut self) {
        self.discarded = true;
    }

    fn count(&self) {
        let record = &self.record;
        match record.outcome {
            Outcome::Ok => {}
            Outcome::Denied => self.metrics.denied(record.code),
            Outcome::Failed => self.metrics.failed(record.code),
        }
        self.metrics.total.observe(self.start.elapsed().as_secs_f64());
        let Some(rule) = &self.rule else { return };
        match record.outcome {
            Outcome::Ok => rule.ok.inc(),
            Outcome::Denied => rule.denied.inc(),
            Outcome::Failed => rule.failed.inc(),
        }
        rule.bytes_in.inc_by(record.bytes_in);
        rule.bytes_out.inc_by(record.bytes_out);
        rule.scrubbed.inc_by(record.scrubbed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.discarded {
            return;
        }
        if !self.settled {
            let (code, reason) = if self.tasks.is_stopping() {
                (STOPPED, OUT_OF_TIME)
            } else {
                (
                    "agent_gone",
                    "the agent closed, or nothing moved for too long, before the end",
                )
            };
            self.failed(Outcome::Failed, code, Some(reason.to_owned()));
        }
        self.record.bytes_in = self.bytes_in.load(Ordering::Relaxed);
        self.record.scrubbed = self.scrubbed.load(Ordering::Relaxed);
        self.record.durations.total = Some(self.start.elapsed());
        self.count();
        let record = std::mem::replace(&mut *self.record, Record::begin(""));
        self.log.write(record);
    }
}

const STOPPED: &str = "stopped";
const OUT_OF_TIME: &str = "Keyferry was told to stop, and it did not finish in time";

/// A reply's body with its record, its connection's lease and its limits.
#[derive(Debug)]
pub struct Recorded {
    body: Body,
    entry: Entry,
    lease: Option<Lease>,
    cap: u64,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// Why a reply was cut.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// More bytes than the rule allows.
    #[error("the response is larger than the rule allows")]
    TooLarge,
    /// More time than the rule allows.
    #[error("the exchange took longer than the rule allows")]
    TooLong,
    /// The request's body failed before it was whole.
    #[error("the request broke off")]
    Request,
}

impl Recorded {
    /// A reply of our own, or an upstream's with its `lease`.
    pub fn new(body: Body, entry: Entry, lease: Option<Lease>) -> Self {
        Self {
            body,
            entry,
            lease,
            cap: u64::MAX,
            deadline: None,
            ended: false,
        }
    }

    /// Cuts the reply after so many bytes.
    pub fn cap(mut self, cap: Option<u64>) -> Self {
        self.cap = cap.unwrap_or(u64::MAX);
        self
    }

    /// Cuts the reply at this time.
    pub fn deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        self
    }

    fn finish(&mut self) {
        self.ended = true;
        self.entry.settle();
        if let Some(mut lease) = self.lease.take() {
            lease.finish();
        }
    }

    /// The reply broke off because its request did.
    fn cut_for(&mut self, failure: net::Error) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let fault = Fault::from(failure);
        self.entry
            .failed(fault.outcome, fault.code, fault.cause.or(Some(fault.message)));
        self.cut(fault.code, Cut::Request.into())
    }

    fn cut(&mut self, code: &'static str, why: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.ended = true;
        self.lease = None;
        self.entry
            .failed(Outcome::Failed, code, Some(super::fault::chain(&*why)));
        Poll::Ready(Some(Err(why)))
    }
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return this.cut("exchange_timeout", Cut::TooLong.into());
        }
        match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            None => {
                this.finish();
                Poll::Ready(None)
            }
            Some(Err(why)) => match this.lease.as_ref().and_then(Lease::request_failure) {
                Some(failure) => this.cut_for(failure),
                None => {
                    let code = why.downcast_ref().map_or("upstream_broke_off", Unscrubbable::code);
                    this.cut(code, why)
                }
            },
            Some(Ok(mut frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    this.entry.record.bytes_out += bytes.len() as u64;
                    if this.entry.record.bytes_out > this.cap {
                        return this.cut("response_too_large", Cut::TooLarge.into());
                    }
                } else if let Some(trailers) = frame.trailers_mut() {
                    hygiene::trailers(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body whose length it knows, nor for the body of a HEAD; and over HTTP/2
        // the end may come behind the last byte, in a frame of its own (RFC 9113 §6.1), which nobody waits for then.
        let is_over =
            |body: &Body| http_body::Body::is_end_stream(body) || http_body::Body::size_hint(body).exact() == Some(0);
        if !self.ended && is_over(&self.body) {
            self.finish();
        }
    }
}
