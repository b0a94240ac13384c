//! Fetching what takes time: once for all who wait, renewed before it ends, and left alone for a
//! while after it failed.

use super::error::Cause;
use super::{Held, Inner, Slot, exec, kept, mint};
use crate::base::ids::SecretId;
use crate::base::secret::Secret;
use crate::config::model::Source;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How a fetch ended; nothing while it runs.
type Ending = Option<Result<Arc<Held>, Cause>>;

/// The fetch under way, and how the ones before it went.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    running: Option<watch::Receiver<Ending>>,
    failures: u32,
    /// No new try before this, and what to tell those who ask meanwhile.
    pause: Option<(Instant, Cause)>,
}

/// Waits for the fetch under way, or for one that is begun now.
pub(super) async fn wait(inner: &Arc<Inner>, id: SecretId) -> Result<Arc<Held>, Cause> {
    ended(join(inner, id)?).await
}

/// The same for a value that is not of this `version`: one that came since somebody found that it is will do.
pub(super) async fn another(inner: &Arc<Inner>, id: SecretId, version: u64) -> Result<Arc<Held>, Cause> {
    let running = {
        let slot = inner.slots.get(id.index()).ok_or(Cause::Unknown)?;
        // A fetch takes this before it is over, so that none can end between the look and the joining.
        let mut fetching = slot.fetching.lock();
        let now = slot.current.load_full().filter(|now| now.held.version != version);
        if let Some(now) = now {
            return Ok(Arc::clone(&now.held));
        }
        join_locked(inner, id, slot, &mut fetching)?
    };
    ended(running).await
}

async fn ended(mut running: watch::Receiver<Ending>) -> Result<Arc<Held>, Cause> {
    let ended = running.wait_for(Option::is_some).await;
    match ended.as_deref() {
        Ok(Some(result)) => result.clone(),
        Ok(None) | Err(_) => Err(Cause::Stopping),
    }
}

/// The fetch under way, or one that is begun now.
///
/// It runs as a task of its own: the first who asked may go away, the others still wait.
pub(super) fn join(inner: &Arc<Inner>, id: SecretId) -> Result<watch::Receiver<Ending>, Cause> {
    let slot = inner.slots.get(id.index()).ok_or(Cause::Unknown)?;
    join_locked(inner, id, slot, &mut slot.fetching.lock())
}

fn join_locked(
    inner: &Arc<Inner>,
    id: SecretId,
    slot: &Slot,
    fetching: &mut Fetching,
) -> Result<watch::Receiver<Ending>, Cause> {
    if !slot.source.is_fetched() {
        return Err(Cause::Unknown);
    }
    // One whose task is gone without an ending counts as none.
    if let Some(running) = fetching
        .running
        .as_ref()
        .filter(|running| running.has_changed().is_ok())
    {
        return Ok(running.clone());
    }
    if let Some((until, cause)) = &fetching.pause
        && Instant::now() < *until
    {
        return Err(cause.clone());
    }
    let (tell, running) = watch::channel(None);
    fetching.running = Some(running.clone());
    let inner = Arc::clone(inner);
    let tasks = inner.tasks.clone();
    tasks.spawn(async move {
        if let Some(slot) = inner.slots.get(id.index()) {
            let result = fetch(&inner, slot).await;
            inner.fetched(slot, result.is_ok());
            if result.is_ok() && slot.is_lent() {
                renew_in_time(&inner, id);
            }
            tell.send_replace(Some(result));
        }
    });
    Ok(running)
}

/// Has what is lent renewed in its time, used or not: what was had with it ends with it.
fn renew_in_time(inner: &Arc<Inner>, id: SecretId) {
    let due = move |inner: &Inner| Some(inner.slots.get(id.index())?.current.load().as_ref()?.term?.0);
    let Some(at) = due(inner) else { return };
    let (store, tasks) = (Arc::downgrade(inner), inner.tasks.clone());
    inner.tasks.spawn(async move {
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep_until(at) => {}
        }
        // Where another fetch came first, that one has seen to the next.
        if let Some(inner) = store.upgrade().filter(|inner| due(inner) == Some(at)) {
            let _ = join(&inner, id);
        }
    });
}

/// A value, and how long it is good for, counted from before it was asked for: it may have been old already.
#[derive(Debug)]
pub(super) struct Fetched {
    /// None where the one before is good for longer.
    pub(super) secret: Option<Secret>,
    pub(super) ttl: Option<Duration>,
    /// How long it is used beyond that, while there is no other to be had.
    pub(super) grace: Duration,
}

impl Fetched {
    /// One that ends with its time.
    pub(super) fn new(secret: Secret, ttl: Option<Duration>) -> Self {
        Self {
            secret: Some(secret),
            ttl,
            grace: Duration::ZERO,
        }
    }

    /// The one before, which is good for longer now.
    pub(super) fn same(ttl: Option<Duration>) -> Self {
        Self {
            secret: None,
            ttl,
            grace: Duration::ZERO,
        }
    }
}

async fn fetch(inner: &Arc<Inner>, slot: &Slot) -> Result<Arc<Held>, Cause> {
    let begun = Instant::now();
    let fetched = match &slot.source {
        Source::Exec { argv, ttl, timeout } => {
            let secret = exec::run(argv, *timeout, &slot.shape, exec::Around::Own).await;
            secret.map(|secret| Fetched::new(secret, *ttl))
        }
        Source::Minted(mint) => mint::mint(inner, slot, mint).await,
        Source::Kept(kept) => kept::fetch(inner, slot, kept).await,
        Source::Env(_) | Source::File(_) | Source::Credential(_) | Source::Store(_) => return Err(Cause::Unknown),
    };
    let result = fetched.and_then(|Fetched { secret, ttl, grace }| {
        let term = ttl.map(|ttl| (begun + ttl.mul_f64(RENEW), begun + ttl + grace));
        let before = || slot.current.load().as_ref().map(|current| Arc::clone(&current.held));
        let made = secret.map(Held::new).or_else(before).ok_or(Cause::Unknown)?;
        let (held, new) = slot.renew(&made, term);
        if new {
            inner.outdate_parts(&slot.name);
        }
        Ok(held)
    });
    let mut fetching = slot.fetching.lock();
    fetching.running = None;
    match &result {
        Ok(_) => {
            fetching.failures = 0;
            fetching.pause = None;
        }
        Err(cause) => {
            fetching.failures = fetching.failures.saturating_add(1);
            let pause = pause_after(fetching.failures, jitter());
            fetching.pause = Some((Instant::now() + pause, cause.clone()));
            tracing::warn!(secret = %slot.name, %cause, next_try_in = ?pause, "a secret could not be fetched");
        }
    }
    result
}

/// How long to leave a program alone that failed so many times in a row: a second, doubled each
/// time up to a minute, less up to a quarter so that many do not come back at once.
fn pause_after(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(6));
    doubled.min(LONGEST_PAUSE).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
}

/// From 0 to 1.
fn jitter() -> f64 {
    let mut byte = [0];
    // Without randomness all come back at once, which is no worse than without jitter.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

/// The part of its term after which a value that is used is fetched again.
const RENEW: f64 = 0.8;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<_> = (1..=9).map(|n| pause_after(n, 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause_after(u32::MAX, 1.0), Duration::from_secs(45));
    }
}
