//! From the tree to the raw types: collects every unknown key, missing key and wrong type.

use super::looks::{looks_secret, shown};
use super::mistakes::Mistake;
use super::place::Place;
use super::tree::{Node, Value};
use std::collections::HashMap;

/// What was found so far, and the text it was found in.
#[derive(Debug)]
pub(super) struct Findings<'t> {
    pub(super) text: &'t str,
    pub(super) errors: Vec<Mistake>,
    pub(super) warnings: Vec<Mistake>,
}

/// A type that can be read from a node; whatever is wrong is noted in the findings.
pub(super) trait Read: Sized {
    /// Reads it, or notes why not.
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self>;

    /// What stands for a key that is not there; `None` means that it must be.
    fn absent() -> Option<Self> {
        None
    }
}

impl<'t> Findings<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Notes a mistake that keeps the config from loading.
    pub(super) fn error(&mut self, place: Place, message: impl Into<String>) -> &mut Mistake {
        push(&mut self.errors, Mistake::new(place, message))
    }

    /// Notes something that loads but is hardly meant.
    pub(super) fn warn(&mut self, place: Place, message: impl Into<String>) -> &mut Mistake {
        push(&mut self.warnings, Mistake::new(place, message))
    }

    /// Notes that `node` is not what `wanted` says.
    pub(super) fn wrong_type(&mut self, node: &Node, wanted: &str) -> &mut Mistake {
        let message = format!("expected {wanted}, found {}", node.value.kind());
        self.error(node.at, message)
    }

    /// Notes a name that is not known, with the nearest one that is.
    pub(super) fn unknown<'a>(
        &mut self,
        place: Place,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'a str> + Clone,
        add: &str,
    ) {
        if looks_secret(name) {
            self.error(place, format!("a {what}'s name belongs here, not a value"))
                .hint("put the value in the environment, a file or the store, and name it under `secrets`");
            return;
        }
        let near = nearest(name, known);
        let mistake = self.error(place, format!("no {what} is named `{}`", shown(name)));
        match near {
            Some(near) => mistake.hint(format!("did you mean `{near}`?")),
            None => mistake.hint(add),
        };
    }

    /// A text, or a number as it is written.
    pub(super) fn scalar<'n>(&self, node: &'n Node) -> Option<&'n str>
    where
        't: 'n,
    {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Number => Some(node.at.slice(self.text).trim()),
            _ => None,
        }
    }

    /// The entries of a map whose keys are known, each once.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &'static [&'static str],
    ) -> Option<Fields<'n>>
    where
        't: 'n,
    {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, &format!("a map for {what}"));
            return None;
        };
        let mut fields = Fields {
            values: HashMap::new(),
            guessed: Vec::new(),
            stray: false,
            at: node.at,
        };
        for (key, value) in entries {
            let Some(name) = self.scalar(key) else {
                self.wrong_type(key, "a text as the key");
                continue;
            };
            let Some(known_key) = known.iter().find(|k| **k == name).copied() else {
                fields.stray = true;
                fields.guessed.extend(self.unknown_key(key.at, name, what, known));
                continue;
            };
            if fields.values.insert(known_key, value).is_some() {
                self.error(key.at, format!("`{known_key}` is given twice"))
                    .hint("keep one of them");
            }
        }
        Some(fields)
    }

    fn unknown_key(
        &mut self,
        place: Place,
        name: &str,
        what: &str,
        known: &'static [&'static str],
    ) -> Option<&'static str> {
        let near = nearest(name, known.iter().copied());
        let mistake = self.error(place, format!("{what} has no key `{}`", shown(name)));
        match near {
            Some(near) => mistake.hint(format!("did you mean `{near}`?")),
            None => mistake.hint(format!("the keys here are {}", listed(known))),
        };
        near
    }
}

fn push(list: &mut Vec<Mistake>, mistake: Mistake) -> &mut Mistake {
    let at = list.len();
    list.push(mistake);
    #[expect(clippy::indexing_slicing, reason = "it was pushed on the line above")]
    &mut list[at]
}

/// The entries of one map, taken out one at a time.
#[derive(Debug)]
pub(super) struct Fields<'n> {
    values: HashMap<&'static str, &'n Node>,
    /// Known keys that an unknown one was probably meant to be.
    guessed: Vec<&'static str>,
    /// Whether there was an unknown key.
    pub(super) stray: bool,
    pub(super) at: Place,
}

impl Fields<'_> {
    /// Reads one field. The second value tells whether it was there but could not be read.
    pub(super) fn take<T: Read>(
        &mut self,
        key: &'static str,
        what: &str,
        found: &mut Findings<'_>,
    ) -> (Option<T>, bool) {
        let Some(node) = self.values.remove(key) else {
            let absent = T::absent();
            let guessed = self.guessed.contains(&key);
            if absent.is_none() && !guessed {
                found
                    .error(self.at, format!("{what} lacks `{key}`"))
                    .hint(format!("add `{key}: …`"));
            }
            return (absent, guessed);
        };
        match T::read(node, found) {
            Some(value) => (Some(value), false),
            None => (T::absent(), true),
        }
    }
}

/// Defines a raw type, its keys, its schema and how it is read, all in one place.
///
/// `bad` is set when a key was unknown or could not be read: checks that turn on a key's absence must
/// then hold their peace.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident, $what:literal, {
        $($(#[$field_meta:meta])* $key:literal $field:ident: $type:ty,)*
    }) => {
        #[derive(Debug, Clone, schemars::JsonSchema)]
        $(#[$meta])*
        #[schemars(deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[$field_meta])* #[schemars(rename = $key)] pub(super) $field: $type,)*
            #[schemars(skip)]
            #[allow(dead_code, reason = "every section has it; not every check asks")]
            pub(super) at: $crate::config::place::Place,
            #[schemars(skip)]
            #[allow(dead_code, reason = "every section has it; not every check asks")]
            pub(super) bad: bool,
        }

        impl $crate::config::read::Read for $name {
            fn read(
                node: &$crate::config::tree::Node,
                found: &mut $crate::config::read::Findings<'_>,
            ) -> Option<Self> {
                let mut fields = found.fields(node, $what, &[$($key),*])?;
                let mut bad = fields.stray;
                $(let ($field, unread) = fields.take($key, $what, found);
                bad |= unread;)*
                Some(Self { $($field: $field?,)* at: fields.at, bad })
            }
        }
    };
}
pub(super) use section;

/// The known word nearest to `word`, when it is near enough to have been meant.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Bounds the work for a config with very many names.
    const TRIED: usize = 2_000;
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    let reach = (wanted.chars().count() / 3).clamp(1, 3);
    known
        .filter(|k| k.len().abs_diff(word.len()) <= reach)
        .take(TRIED)
        .map(|k| (strsim::damerau_levenshtein(&wanted, &plain(k)), k))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// `a`, `b` and `c`.
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
