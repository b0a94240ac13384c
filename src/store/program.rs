//! A program that is asked what a request is to be sent with: what it answered is kept for as long as it says, and one run
//! serves all who ask the same.

use super::error::{Cause, Error};
use super::exec::{self, Around};
use crate::base::ids::AgentId;
use crate::base::secret::Secret;
use crate::base::tasks::Tasks;
use crate::config::program::{self, may_be_filled};
use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderName;
use parking_lot::Mutex;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// A program, what it answered, and who waits for it.
#[derive(Debug)]
pub struct Program(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    spec: program::Program,
    turns: Arc<Semaphore>,
    kept: Mutex<Kept>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Key, Arc<Answer>>,
    running: HashMap<Key, watch::Receiver<Option<Ending>>>,
}

type Ending = Result<Arc<Answer>, Cause>;

/// Whom an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Rule,
    Agent(AgentId),
    /// The hash stands for method and URL, which may be long.
    Request(AgentId, [u8; 32]),
}

/// What a program is told.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// Who asks.
    pub agent: (AgentId, &'q str),
    /// The method.
    pub method: &'q str,
    /// The whole URL.
    pub url: &'q str,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// The headers to fill.
    pub headers: Vec<(HeaderName, Secret)>,
    /// A number that no other answer has.
    pub version: u64,
    until: Option<Instant>,
}

/// Answers kept at most; the one that ends first goes first.
const MOST_KEPT: usize = 1024;
/// Headers in one answer.
const MOST_HEADERS: usize = 16;
/// Nothing is kept for longer.
const LONGEST_TERM: Duration = Duration::from_secs(24 * 3600);

impl Program {
    /// Takes a program, to be called `name` in errors.
    pub(super) fn new(name: Arc<str>, spec: &program::Program, tasks: &Tasks) -> Self {
        Self(Arc::new(Inner {
            name,
            spec: spec.clone(),
            turns: Arc::new(Semaphore::new(spec.concurrent)),
            kept: Mutex::default(),
            tasks: tasks.clone(),
        }))
    }

    /// What errors and records call it.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// What this request is to be sent with.
    ///
    /// # Errors
    /// When the program fails, takes too long or answers what cannot be used.
    pub async fn ask(&self, question: Question<'_>) -> Result<Arc<Answer>, Error> {
        self.0.ask(question).await.map_err(|cause| Error {
            name: Arc::clone(&self.0.name),
            cause,
        })
    }
}

enum Joined {
    Kept(Arc<Answer>),
    Running(watch::Receiver<Option<Ending>>),
}

impl Inner {
    async fn ask(self: &Arc<Self>, question: Question<'_>) -> Ending {
        let begun = Instant::now();
        let joined = self.kept.lock().joined(question);
        let joined = match joined {
            Some(joined) => joined,
            None => {
                // Whoever asks waits for the turn: one that goes away leaves nothing behind.
                let turn = Arc::clone(&self.turns).acquire_owned();
                let turn = tokio::time::timeout(self.spec.timeout, turn).await;
                let turn = turn.map_err(|_| self.late())?.map_err(|_| Cause::Stopping)?;
                self.begin(question, turn, begun)
            }
        };
        let mut running = match joined {
            Joined::Kept(answer) => return Ok(answer),
            Joined::Running(running) => running,
        };
        let ended = running.wait_for(Option::is_some).await;
        match ended.as_deref() {
            Ok(Some(ending)) => ending.clone(),
            Ok(None) | Err(_) => Err(Cause::Stopping),
        }
    }

    /// Runs the program, unless whoever had the turn before was answered for all. The run is a task of its own: the first who
    /// asked may go away, the others still wait.
    fn begin(self: &Arc<Self>, question: Question<'_>, turn: OwnedSemaphorePermit, begun: Instant) -> Joined {
        let mut kept = self.kept.lock();
        if let Some(joined) = kept.joined(question) {
            return joined;
        }
        let (agent, key, input) = (question.agent.0, question.key(), question.json());
        let (tell, running) = watch::channel(None);
        kept.running.insert(key, running.clone());
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let ending = inner.run(agent, key, &input, begun).await;
            inner.kept.lock().running.remove(&key);
            if let Err(cause) = &ending {
                tracing::warn!(secret = %inner.name, %cause, "a program had no answer");
            }
            tell.send_replace(Some(ending));
            drop(turn);
        });
        Joined::Running(running)
    }

    fn late(&self) -> Cause {
        Cause::ExecTimeout {
            program: self.spec.argv.first().cloned().unwrap_or_default(),
            after: self.spec.timeout,
        }
    }

    async fn run(&self, agent: AgentId, key: Key, input: &[u8], begun: Instant) -> Ending {
        let left = self.spec.timeout.saturating_sub(begun.elapsed());
        let bytes = exec::answer(&self.spec.argv, left, Some(input), Around::Bare).await?;
        let unfit = |reason: &str| Cause::ExecAnswer {
            program: self.spec.argv.first().cloned().unwrap_or_default(),
            reason: reason.to_owned(),
        };
        let (answer, scope) = read(&bytes, begun).map_err(unfit)?;
        let answer = Arc::new(answer);
        let key = match scope {
            Scope::Request => key,
            Scope::Agent => Key::Agent(agent),
            Scope::Rule => Key::Rule,
        };
        if answer.until.is_some() {
            self.kept.lock().keep(key, &answer);
        }
        Ok(answer)
    }
}

impl Kept {
    /// The answer that is kept, or the run under way.
    fn joined(&self, question: Question<'_>) -> Option<Joined> {
        let key = question.key();
        if let Some(answer) = self.fresh(&[Key::Rule, Key::Agent(question.agent.0), key]) {
            return Some(Joined::Kept(answer));
        }
        // One whose task is gone without an ending counts as none.
        let running = self.running.get(&key).filter(|running| running.has_changed().is_ok());
        running.cloned().map(Joined::Running)
    }

    fn fresh(&self, keys: &[Key]) -> Option<Arc<Answer>> {
        let now = Instant::now();
        let mut answers = keys.iter().filter_map(|key| self.answers.get(key));
        answers
            .find(|answer| answer.until.is_some_and(|until| now < until))
            .cloned()
    }

    fn keep(&mut self, key: Key, answer: &Arc<Answer>) {
        if self.answers.len() >= MOST_KEPT {
            let now = Instant::now();
            self.answers
                .retain(|_, kept| kept.until.is_some_and(|until| now < until));
        }
        if self.answers.len() >= MOST_KEPT {
            let first = self
                .answers
                .iter()
                .min_by_key(|(_, kept)| kept.until)
                .map(|(key, _)| *key);
            first.and_then(|key| self.answers.remove(&key));
        }
        self.answers.insert(key, Arc::clone(answer));
    }
}

impl Question<'_> {
    fn key(&self) -> Key {
        let hash = digest(&SHA256, [self.method, self.url].join(" ").as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Key::Request(self.agent.0, bytes)
    }

    fn json(&self) -> Vec<u8> {
        let told = serde_json::json!({ "method": self.method, "url": self.url, "agent": self.agent.1 });
        format!("{told}\n").into_bytes()
    }
}

/// Whom an answer serves.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    #[default]
    Request,
    Agent,
    Rule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    headers: Pairs,
    #[serde(default)]
    expires_in: Option<u32>,
    #[serde(default, rename = "for")]
    scope: Scope,
}

/// The members of an object, each once.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Reads an answer; no reason holds anything of it.
fn read(bytes: &[u8], begun: Instant) -> Result<(Answer, Scope), &'static str> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let written: Written = serde_json::from_slice(bytes).map_err(|_| {
        "it is no JSON object with `headers` and, where wanted, `expires_in` (whole seconds) and `for` (`request`, \
         `agent` or `rule`)"
    })?;
    if written.headers.0.len() > MOST_HEADERS {
        return Err("it has more than 16 headers");
    }
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (name, value) in written.headers.0 {
        let control = value.bytes().any(|byte| byte < 0x20 || byte == 0x7f);
        let value = Secret::document(value.into_bytes()).map_err(|_| "a header of it is empty")?;
        if control {
            return Err("a header of it holds a control character");
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a name in it is no name of a header")?;
        if !may_be_filled(&name) {
            return Err("it fills a header that belongs to the connection, not to the request");
        }
        if headers.iter().any(|(other, _)| *other == name) {
            return Err("it has a header twice");
        }
        headers.push((name, value));
    }
    if headers.is_empty() {
        return Err("it has no header, and without a credential nothing is sent");
    }
    let term = written
        .expires_in
        .map(|seconds| Duration::from_secs(seconds.into()).min(LONGEST_TERM));
    let answer = Answer {
        headers,
        version: NEXT.fetch_add(1, Ordering::Relaxed),
        until: term.filter(|term| !term.is_zero()).map(|term| begun + term),
    };
    Ok((answer, written.scope))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_whole_and_sound_or_none() {
        let now = Instant::now();
        for (text, words) in [
            ("", "no JSON object"),
            ("{}", "no JSON object"),
            ("{\"headers\": {\"a\": 1}}", "no JSON object"),
            ("{\"headers\": {\"a\": \"b\"}, \"more\": 1}", "no JSON object"),
            ("{\"headers\": {\"a\": \"b\"}, \"expires_in\": -1}", "no JSON object"),
            ("{\"headers\": {}}", "no header"),
            ("{\"headers\": {\"a\": \"\"}}", "empty"),
            ("{\"headers\": {\"a\": \"b\\r\\nc: d\"}}", "control"),
            ("{\"headers\": {\"a\": \"b\\n\"}}", "control"),
            ("{\"headers\": {\"a b\": \"c\"}}", "no name"),
            ("{\"headers\": {\"A\": \"b\", \"a\": \"c\"}}", "twice"),
            ("{\"headers\": {\"a\": \"b\", \"a\": \"c\"}}", "twice"),
            (
                "{\"headers\": {\"Transfer-Encoding\": \"chunked\"}}",
                "belongs to the connection",
            ),
            (
                "{\"headers\": {\"content-length\": \"1\"}}",
                "belongs to the connection",
            ),
            ("{\"headers\": {\"host\": \"b\"}}", "belongs to the connection"),
            (
                "{\"headers\": {\"proxy-authorization\": \"b\"}}",
                "belongs to the connection",
            ),
        ] {
            let told = read(text.as_bytes(), now).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
        let (answer, scope) = read(
            b"{\"headers\": {\"A\": \"b\"}, \"expires_in\": 9, \"for\": \"agent\"}",
            now,
        )
        .unwrap();
        assert!(answer.until == Some(now + Duration::from_secs(9)) && matches!(scope, Scope::Agent));
        assert!(read(b"{\"headers\": {\"A\": \"b\"}}", now).unwrap().0.until.is_none());
        let (answer, _) = read(b"{\"headers\": {\"A\": \"b\"}, \"expires_in\": 4000000000}", now).unwrap();
        assert_eq!(answer.until, Some(now + LONGEST_TERM), "nothing is kept for years");
    }

    #[test]
    fn no_more_answers_are_kept_than_the_bound() {
        let mut kept = Kept::default();
        for number in 0..MOST_KEPT + 10 {
            let text = format!("{{\"headers\": {{\"a\": \"b\"}}, \"expires_in\": {}}}", number + 60);
            let (answer, _) = read(text.as_bytes(), Instant::now()).unwrap();
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            kept.keep(Key::Request(AgentId(0), hash), &Arc::new(answer));
        }
        assert_eq!(kept.answers.len(), MOST_KEPT);
    }
}
