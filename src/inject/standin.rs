//! The stand-ins agents hold, and the search for them where they have no business.

use crate::base::ids::SecretId;
use aho_corasick::AhoCorasick;
use http::HeaderMap;
use std::sync::Arc;

/// Every stand-in of a configuration, by secret.
#[derive(Debug)]
pub struct StandIns {
    by_secret: Vec<Option<Arc<str>>>,
    names: Vec<Arc<str>>,
    finder: Option<AhoCorasick>,
    order: Vec<SecretId>,
    longest: usize,
}

impl StandIns {
    /// Takes the names of the secrets, and the stand-ins of those that agents may hold one of.
    pub fn new(names: Vec<Arc<str>>, by_secret: Vec<Option<Arc<str>>>) -> Self {
        let known = by_secret
            .iter()
            .zip(0..)
            .filter_map(|(s, at)| s.as_ref().map(|s| (Arc::clone(s), SecretId(at))));
        let (texts, order): (Vec<_>, Vec<_>) = known.unzip();
        let longest = texts.iter().map(|t| t.len()).max().unwrap_or(0);
        let texts = texts.iter().map(|t| t.as_bytes());
        let finder = if order.is_empty() {
            None
        } else {
            AhoCorasick::new(texts).ok()
        };
        Self {
            by_secret,
            names,
            finder,
            order,
            longest,
        }
    }

    /// Bytes in the longest stand-in; 0 when there is none.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The stand-in of a secret.
    pub fn of(&self, id: SecretId) -> Option<&Arc<str>> {
        self.by_secret.get(id.index()).and_then(Option::as_ref)
    }

    /// The secret's name.
    pub fn name(&self, id: SecretId) -> Arc<str> {
        self.names.get(id.index()).cloned().unwrap_or_else(|| "?".into())
    }

    /// The first stand-in found in `bytes`.
    pub fn find(&self, bytes: &[u8]) -> Option<SecretId> {
        self.all_in(bytes).next()
    }

    /// Every stand-in in `bytes`.
    pub fn all_in(&self, bytes: &[u8]) -> impl Iterator<Item = SecretId> {
        let found = self.finder.iter().flat_map(move |finder| finder.find_iter(bytes));
        found.filter_map(|found| self.order.get(found.pattern().as_usize()).copied())
    }

    /// The first stand-in in the headers or the path, with the place it stands in.
    ///
    /// `Basic` credentials are looked into.
    pub fn find_in_head(&self, headers: &HeaderMap, path_and_query: &str) -> Option<(SecretId, String)> {
        self.finder.as_ref()?;
        if let Some(id) = self.find(path_and_query.as_bytes()) {
            return Some((id, "the path or query".to_owned()));
        }
        headers.iter().find_map(|(name, value)| {
            let plain = self.find(value.as_bytes());
            let id = plain.or_else(|| super::place::basic_pair(value).and_then(|pair| self.find(&pair)))?;
            Some((id, format!("header `{name}`")))
        })
    }
}
