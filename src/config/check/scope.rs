//! The names a config defines, and what refers to them.

use crate::base::ids::{AgentId, SecretId};
use crate::config::leaf::Text;
use crate::config::looks::shown;
use crate::config::mint::Uses;
use crate::config::model::{SecretSpec, Source};
use crate::config::place::Place;
use crate::config::places;
use crate::config::presets::Preset;
use crate::config::read::Findings;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names of one kind, each with its position.
#[derive(Debug, Default)]
pub(super) struct Names {
    order: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, u32>,
}

impl Names {
    /// Adds a name; the position of one that is there already stays.
    pub(super) fn add(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.order.push(Arc::clone(&name));
        self.ids.insert(name, id);
        id
    }

    /// The position of a name.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// The name at a position.
    pub(super) fn at(&self, position: usize) -> Option<&Arc<str>> {
        self.order.get(position)
    }

    /// The names in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.order.iter().map(|n| &**n)
    }
}

/// What a part of the config may refer to while it is checked.
#[derive(Debug)]
pub(super) struct Scope<'p> {
    /// Where relative paths start.
    pub(super) base: &'p Path,
    pub(super) secrets: Names,
    pub(super) agents: Names,
    /// Secrets something refers to.
    pub(super) used: HashSet<SecretId>,
    /// Logins that rules capture.
    pub(super) logins: Names,
    /// Those whose tokens some rule takes.
    pub(super) used_logins: HashSet<String>,
    /// Secrets a rule injects.
    pub(super) injected: HashSet<SecretId>,
    /// Secrets that are documents, such as private keys.
    pub(super) documents: HashSet<SecretId>,
    /// While a rule is checked: its name.
    pub(super) rule: String,
    /// Secrets that presets and rules bring along; they follow the written ones, in this order.
    pub(super) implicit: Vec<SecretSpec>,
    /// The region of `aws`, where STS is asked.
    pub(super) aws_region: Option<String>,
    /// While a preset's rule is checked: the preset, and the secret that is its own.
    pub(super) preset: Option<(&'static Preset, SecretId)>,
    /// And the tokens that it has made for its rules.
    pub(super) tokens: Vec<(String, SecretId)>,
}

impl<'p> Scope<'p> {
    pub(super) fn new(base: &'p Path) -> Self {
        Self {
            base,
            secrets: Names::default(),
            agents: Names::default(),
            used: HashSet::new(),
            logins: Names::default(),
            used_logins: HashSet::new(),
            injected: HashSet::new(),
            documents: HashSet::new(),
            rule: String::new(),
            implicit: Vec::new(),
            aws_region: None,
            preset: None,
            tokens: Vec::new(),
        }
    }

    /// The secret of that name, which is then in use.
    pub(super) fn find_secret(&mut self, name: &str) -> Option<SecretId> {
        let own = self
            .preset
            .filter(|(preset, _)| !preset.more.iter().any(|more| more.name == name));
        let token = self.tokens.iter().find(|(token, _)| token == name);
        let id = match (token, own) {
            (Some((_, id)), _) => *id,
            (None, Some((_, id))) => id,
            (None, None) => SecretId(self.secrets.find(name)?),
        };
        self.used.insert(id);
        Some(id)
    }

    /// Whether the preset whose rule is checked has to do without this secret of its.
    pub(super) fn does_without(&self, name: &str) -> bool {
        let mut more = self.preset.iter().flat_map(|(preset, _)| &preset.more);
        more.any(|more| more.optional && more.name == name) && self.secrets.find(name).is_none()
    }

    /// The secret `name` refers to; an unknown one is a mistake.
    pub(super) fn secret(&mut self, name: &Text, found: &mut Findings<'_>) -> Option<SecretId> {
        let id = self.find_secret(name);
        if id.is_none() {
            self.unknown_secret(name.at, name, found);
        }
        id
    }

    /// Notes that no secret has this name.
    pub(super) fn unknown_secret(&self, place: Place, name: &str, found: &mut Findings<'_>) {
        let add = format!("add it under `secrets`: `{}: {{ env: VARIABLE }}`", shown(name));
        found.unknown(place, "secret", name, self.secrets.iter(), &add);
    }

    /// A secret that is not written, and that others are had with; there is one of each name.
    pub(super) fn implied(&mut self, name: &str, source: Source) -> Uses {
        let known = self.secrets.find(name).is_some();
        let id = SecretId(self.secrets.add(name));
        self.used.insert(id);
        if !known {
            self.implicit.push(SecretSpec {
                name: name.into(),
                source,
                document: false,
                field: None,
                placeholder: None,
                agent_env: Vec::new(),
            });
        }
        Uses { id, name: name.into() }
    }

    /// The agent `name` refers to; an unknown one is a mistake.
    pub(super) fn agent(&self, name: &Text, found: &mut Findings<'_>) -> Option<AgentId> {
        let id = self.agents.find(name).map(AgentId);
        if id.is_none() {
            let add = format!("add it under `agents`: `{}: {{ token: SECRET }}`", shown(name));
            found.unknown(name.at, "agent", name, self.agents.iter(), &add);
        }
        id
    }

    /// The file or directory `written` means.
    pub(super) fn path(&self, written: &Text, found: &mut Findings<'_>) -> Option<PathBuf> {
        if written.is_empty() || written.contains('\0') {
            found.error(written.at, "expected a path");
            return None;
        }
        let path = places::resolve(written, self.base);
        if path.is_none() {
            found
                .error(written.at, "`~` stands for your home directory here, and only as `~/…`")
                .hint("write the path out");
        }
        path
    }
}

/// Checks a name the user chose: short, and of letters that need no quoting anywhere it is shown.
pub(super) fn name_is_fit(name: &Text, what: &str, found: &mut Findings<'_>) {
    const LONGEST: usize = 64;
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(fit) {
        found
            .error(name.at, format!("`{}` cannot name {what}", shown(name)))
            .hint(format!("use up to {LONGEST} letters, digits, `-`, `_` and `.`"));
    }
}

/// Checks the name of an environment variable.
pub(super) fn variable_is_fit(name: &Text, found: &mut Findings<'_>) -> bool {
    let fit = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    if !name.is_empty() && !digit && name.chars().all(fit) && !crate::config::looks::looks_secret(name) {
        return true;
    }
    found
        .error(name.at, "expected the name of an environment variable")
        .hint("name the variable, such as `OPENAI_API_KEY`; never write the value");
    false
}
