//! What a program of the operator's answers, put in a request's headers; and what must not come back of its answers.

use super::{Error, place};
use crate::base::secret::Secret;
use crate::net;
use crate::policy::Permitted;
use crate::scrub::Needles;
use crate::store::{Answer, Program, Question};
use http::HeaderName;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// The program of one rule, and what its last answers left to look for.
#[derive(Debug)]
pub(super) struct Asked {
    program: Program,
    /// The newest last.
    traces: Mutex<VecDeque<(u64, Arc<Needles>)>>,
}

/// Answers of a rule whose values are looked for in the replies of the hosts that it may give them to.
const REMEMBERED: usize = 16;
/// A word that is shorter is not looked for by itself.
const SHORTEST_WORD: usize = 8;

impl Asked {
    pub(super) fn new(program: Program) -> Self {
        let traces = Mutex::default();
        Self { program, traces }
    }

    /// What records call it.
    pub(super) fn name(&self) -> &Arc<str> {
        self.program.name()
    }

    /// Fills the headers that the program answers with, and tells which they are.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn fill(&self, permitted: &mut Permitted, agent: &str) -> Result<Vec<HeaderName>, Error> {
        let authority = net::authority(permitted.target(), permitted.scheme());
        let (method, path) = (permitted.method().to_string(), permitted.path_and_query().to_owned());
        let url = format!("{}://{authority}{path}", permitted.scheme().as_str());
        let question = Question {
            agent: (permitted.agent(), agent),
            method: &method,
            url: &url,
        };
        let answer = self.program.ask(question).await.map_err(|source| Error::Unavailable {
            name: Arc::clone(self.name()),
            source,
        })?;
        for (name, value) in &answer.headers {
            let value = value.expose(|value| place::sensitive(value, self.name()))?;
            place::header(permitted.headers_mut(), name, value);
        }
        self.remember(&answer);
        Ok(answer.headers.iter().map(|(name, _)| name.clone()).collect())
    }

    /// What is looked for in replies.
    pub(super) fn traces(&self) -> Vec<Arc<Needles>> {
        self.traces
            .lock()
            .iter()
            .map(|(_, needles)| Arc::clone(needles))
            .collect()
    }

    fn remember(&self, answer: &Answer) {
        let mut traces = self.traces.lock();
        if traces.iter().any(|(version, _)| *version == answer.version) {
            return;
        }
        let values = answer.headers.iter().flat_map(|(_, value)| words(value));
        let values: Vec<Secret> = values.collect();
        let needles = Arc::new(Needles::new(values.iter().map(|value| (value, None))));
        if traces.len() >= REMEMBERED {
            traces.pop_front();
        }
        traces.push_back((answer.version, needles));
    }
}

/// A value, and the words in it that may be credentials by themselves: the token of `Bearer …`, a password of `Basic …`, the
/// values of `a=b; c=d`.
fn words(value: &Secret) -> Vec<Secret> {
    let pieces = value.expose(|bytes| {
        let split = bytes.split(|byte| matches!(byte, b' ' | b',' | b';' | b'"'));
        let split = split.flat_map(|word| [Some(word), word.splitn(2, |byte| *byte == b'=').nth(1)]);
        let mut pieces: Vec<Vec<u8>> = split.flatten().map(<[u8]>::to_vec).collect();
        pieces.retain(|word| word.len() >= SHORTEST_WORD);
        pieces.push(bytes.to_vec());
        if let Ok(header) = http::HeaderValue::from_bytes(bytes)
            && let Some(pair) = place::basic_pair(&header)
            && let Some(at) = pair.iter().position(|byte| *byte == b':')
        {
            pieces.push(pair.get(at + 1..).unwrap_or_default().to_vec());
        }
        pieces
    });
    pieces
        .into_iter()
        .filter_map(|piece| Secret::document(piece).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_word_that_may_be_a_credential_is_looked_for() {
        let found = |text: &str| {
            let words = words(&Secret::new(text.into()).unwrap());
            let words = words
                .iter()
                .map(|word| word.expose(|bytes| String::from_utf8(bytes.to_vec()).unwrap()));
            words.collect::<Vec<_>>()
        };
        assert!(found("Bearer token-0001").contains(&"token-0001".to_owned()));
        assert!(found("a=value-0001; b=value-0002").contains(&"value-0002".to_owned()));
        assert!(found("Basic dTpwYXNzd29yZC0wMDE=").contains(&"password-001".to_owned()));
        assert_eq!(found("short"), ["short"]);
    }
}
