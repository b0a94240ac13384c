//! Tokens that an agent's own logins are given: taken out of the replies of token endpoints, kept here, and swapped back
//! into what the agent sends to where they belong. The agent holds stand-ins of the same shape.
//!
//! A token is its agent's: another agent's use of the stand-in is refused. How many there are is bounded, and each that
//! has a lifetime is forgotten after it.

mod fields;
mod kept;
mod reply;
pub(super) mod swap;

#[cfg(test)]
mod tests;
mod token;

pub use reply::{Exchange, Unreadable};
pub use token::Token;

use super::StandIns;
use crate::base::ids::SecretId;
use crate::base::secret::Secret;
use crate::scrub::Needles;
use crate::store::EncryptedFile;
use crate::store::encrypted::Stamp;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use token::{Fresh, Holder};
use tokio::sync::Semaphore;

/// All tokens of all logins. One for the whole program: a login outlives the configuration it was made under.
pub struct Captured {
    tokens: Mutex<Vec<Arc<Token>>>,
    now: ArcSwap<Held>,
    file: EncryptedFile,
    written: Mutex<Written>,
    /// One reads the file, and whoever wants it meanwhile waits.
    turn: Semaphore,
}

/// What is written down.
#[derive(Default)]
struct Written {
    /// The logins of which it is.
    logins: Vec<Arc<str>>,
    /// The state of the file that was read.
    read: Option<Stamp>,
}

/// The tokens at one moment, ready to be looked for.
pub struct Held {
    tokens: Vec<Arc<Token>>,
    stand_ins: Arc<StandIns>,
    /// What to search replies for, made when it is first wanted, by login.
    needles: Vec<(Arc<str>, OnceLock<Arc<Needles>>)>,
    /// When the first of them is to be forgotten.
    ends: Option<SystemTime>,
}

/// Tokens of one login that one agent may have at one time; the oldest makes room.
const MOST_OF_AGENT: usize = 32;

/// Tokens of one login over all agents; who has most makes room.
const MOST_OF_LOGIN: usize = 128;

/// How long a token is remembered beyond its end, for clocks differ.
const GRACE: Duration = Duration::from_secs(60);

/// How long a token is remembered that another has taken the place of: it may come back in a reply yet.
const AFTERLIFE: Duration = Duration::from_secs(600);

impl Captured {
    /// Keeps in `file` what is to outlive this process.
    pub fn new(file: EncryptedFile) -> Self {
        Self {
            tokens: Mutex::default(),
            now: ArcSwap::from_pointee(Held::of(Vec::new())),
            file,
            written: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    /// The tokens of now.
    pub fn now(&self) -> Arc<Held> {
        let held = self.now.load_full();
        if held.ends.is_none_or(|end| end > SystemTime::now()) {
            return held;
        }
        let mut tokens = self.tokens.lock();
        forget_ended(&mut tokens);
        self.publish(&tokens)
    }

    /// The tokens of now, with what another process has written down: a program that shares its login with one behind
    /// that process shows what came there.
    pub async fn shared(&self) -> Arc<Held> {
        if self.is_behind()
            && let Ok(_turn) = self.turn.acquire().await
            && self.is_behind()
            && let Err(error) = self.read().await
        {
            tracing::warn!(%error, "what another process has stored of logins cannot be read");
        }
        self.now()
    }

    fn is_behind(&self) -> bool {
        let written = self.written.lock();
        !written.logins.is_empty() && written.read != self.file.stamp()
    }

    fn publish(&self, tokens: &[Arc<Token>]) -> Arc<Held> {
        let held = Arc::new(Held::of(tokens.to_vec()));
        self.now.store(Arc::clone(&held));
        held
    }

    /// Takes tokens up, in the place of those that were `spent` for them, and returns them in their order. A token that
    /// is known keeps its stand-in. Where the holder's are to outlive this process they have been written down, or the
    /// operator was told, when this returns.
    async fn take(&self, holder: &Holder, fresh: Vec<Fresh>, spent: &[Arc<Token>]) -> Option<Vec<Arc<Token>>> {
        let (taken, gone) = {
            let mut tokens = self.tokens.lock();
            let before = tokens.clone();
            let mut taken = Vec::with_capacity(fresh.len());
            for each in fresh {
                taken.push(take_one(&mut tokens, holder, each)?);
            }
            for old in spent {
                retire(&mut tokens, old);
            }
            forget_ended(&mut tokens);
            make_room(&mut tokens, holder);
            self.publish(&tokens);
            let gone = before.into_iter().filter(|old| {
                let stays = tokens.iter().any(|token| token.stand_in == old.stand_in);
                old.keep && (!stays || spent.iter().any(|spent| spent.stand_in == old.stand_in))
            });
            (taken, gone.collect::<Vec<_>>())
        };
        if holder.keep && !taken.is_empty() {
            kept::write(&self.file, &taken, &gone).await;
        }
        Some(taken)
    }

    /// Takes up what was written down for these logins, beside what is known, and what is written from now on.
    ///
    /// # Errors
    /// When the encrypted file cannot be opened.
    pub async fn load(&self, logins: &[Arc<str>]) -> Result<(), crate::store::encrypted::Error> {
        self.written.lock().logins = logins.to_vec();
        if logins.is_empty() {
            return Ok(());
        }
        self.read().await
    }

    async fn read(&self) -> Result<(), crate::store::encrypted::Error> {
        let logins = self.written.lock().logins.clone();
        // Before it is read: what is written meanwhile is read again.
        let state = self.file.stamp();
        let read = kept::read(&self.file, &logins).await;
        self.written.lock().read = state;
        let read = read?;
        let mut tokens = self.tokens.lock();
        for token in read {
            if !tokens.iter().any(|known| known.stand_in == token.stand_in) {
                let holder = token.holder();
                tokens.push(token);
                make_room(&mut tokens, &holder);
            }
        }
        forget_ended(&mut tokens);
        self.publish(&tokens);
        Ok(())
    }
}

/// The token as it is known, with its new end, or as a new one.
fn take_one(tokens: &mut Vec<Arc<Token>>, holder: &Holder, fresh: Fresh) -> Option<Arc<Token>> {
    let known = tokens
        .iter()
        .position(|token| token.is_of(&holder.login, &holder.agent) && token.secret.is_same(&fresh.secret));
    let stand_in = match known.map(|at| tokens.remove(at)) {
        Some(token) => Arc::clone(&token.stand_in),
        None => token::stand_in(&fresh.secret, tokens)?,
    };
    let token = Arc::new(Token::new(holder, fresh, stand_in));
    tokens.push(Arc::clone(&token));
    Some(token)
}

/// Has a token that was exchanged for another end soon.
fn retire(tokens: &mut [Arc<Token>], old: &Token) {
    let soon = SystemTime::now() + AFTERLIFE;
    for token in tokens.iter_mut().filter(|token| token.stand_in == old.stand_in) {
        if token.until.is_none_or(|until| until > soon) {
            *token = Arc::new(token.ending(soon));
        }
    }
}

fn forget_ended(tokens: &mut Vec<Arc<Token>>) {
    let now = SystemTime::now();
    tokens.retain(|token| token.until.is_none_or(|until| until + GRACE > now));
}

/// Forgets the oldest of this agent's, and then of whoever has most.
fn make_room(tokens: &mut Vec<Arc<Token>>, holder: &Holder) {
    let of = |tokens: &[Arc<Token>], agent: &str| tokens.iter().filter(|t| t.is_of(&holder.login, agent)).count();
    while of(tokens, &holder.agent) > MOST_OF_AGENT {
        forget_oldest(tokens, &holder.login, &holder.agent);
    }
    while tokens.iter().filter(|token| token.login == holder.login).count() > MOST_OF_LOGIN {
        let agents = tokens.iter().filter(|token| token.login == holder.login);
        let Some(most) = agents
            .map(|t| Arc::clone(&t.agent))
            .max_by_key(|agent| of(tokens, agent))
        else {
            return;
        };
        forget_oldest(tokens, &holder.login, &most);
    }
}

/// They stand in the order in which they came.
fn forget_oldest(tokens: &mut Vec<Arc<Token>>, login: &str, agent: &str) {
    if let Some(at) = tokens.iter().position(|token| token.is_of(login, agent)) {
        tokens.remove(at);
    }
}

impl Held {
    fn of(tokens: Vec<Arc<Token>>) -> Self {
        let names = tokens.iter().map(|token| token.name()).collect();
        let marks = tokens.iter().map(|token| Some(token.mark().into())).collect();
        let mut needles: Vec<(Arc<str>, OnceLock<_>)> = Vec::new();
        for token in &tokens {
            if !needles.iter().any(|(login, _)| *login == token.login) {
                needles.push((Arc::clone(&token.login), OnceLock::new()));
            }
        }
        Self {
            stand_ins: Arc::new(StandIns::new(names, marks)),
            needles,
            ends: tokens
                .iter()
                .filter_map(|token| token.until)
                .min()
                .map(|end| end + GRACE),
            tokens,
        }
    }

    /// What to look for where no stand-in of a login may stand.
    pub(super) fn stand_ins(&self) -> &Arc<StandIns> {
        &self.stand_ins
    }

    /// What to search the replies of a login's hosts for: whoever's the tokens are, the host may have been given them.
    pub(super) fn needles(&self, login: &str) -> Option<Arc<Needles>> {
        let (_, made) = self.needles.iter().find(|(name, _)| **name == *login)?;
        let made = made.get_or_init(|| {
            let tokens = self.tokens.iter().filter(|token| *token.login == *login);
            let traces: Vec<(Secret, String)> = tokens.filter_map(|token| token.trace()).collect();
            let traces = traces
                .iter()
                .map(|(secret, stand_in)| (secret, Some(stand_in.as_str())));
            Arc::new(Needles::new(traces))
        });
        Some(Arc::clone(made))
    }

    /// The tokens whose stand-ins `bytes` hold, if they are of this login and agent.
    fn in_bytes<'a>(&'a self, bytes: &[u8], login: &str, agent: &str) -> Vec<&'a Arc<Token>> {
        let mut found: Vec<SecretId> = self.stand_ins.all_in(bytes).collect();
        found.sort_unstable();
        found.dedup();
        let tokens = found.into_iter().filter_map(|id| self.tokens.get(id.index()));
        tokens.filter(|token| token.is_of(login, agent)).collect()
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured")
            .field("now", &self.now.load())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}
