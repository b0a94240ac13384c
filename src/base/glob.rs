//! Patterns for hosts and paths, and a map from hosts that does not grow slower with its size.

use super::host::{Host, Target};
use globset::{GlobBuilder, GlobMatcher};
use std::collections::HashMap;
use std::net::IpAddr;

/// Which targets a rule speaks of: a host, possibly with `*`, and possibly a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// What stands for the host.
    pub host: HostGlob,
    /// The port; without one, 443 and 80.
    pub port: Option<u16>,
}

/// A host pattern, sorted by how it is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostGlob {
    /// Every host, by name or by address.
    Any,
    /// This one host.
    Exact(Host),
    /// `*.suffix`: every name below `suffix`, at any depth, but not `suffix` itself.
    Below(String),
    /// A `*` elsewhere: it stands for any run of characters within one label.
    Inner(String),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// No valid host remains.
    #[error("{0}")]
    Host(#[from] super::host::BadHost),
    /// Not understood by the glob library.
    #[error("{0}")]
    Glob(String),
    /// A label with `*` that is not spelled as hosts are: it would match none.
    #[error("a label with `*` is written in lower-case ASCII, or as `xn--…` without a `*`")]
    Label,
    /// A path that does not start with `/`.
    #[error("a path pattern starts with `/`")]
    Path,
    /// A method in lower case, or with a byte no method has (RFC 9110 §9.1: methods are case-sensitive).
    #[error("`{0}` is no method; methods are written in upper case, `*` stands for all")]
    Method(String),
}

impl HostPattern {
    /// Reads `host`, `host:port`, `*.host`, `api-*.host` or `*`.
    ///
    /// # Errors
    /// When no valid host remains.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if !text.contains('*') {
            let exact = |host| HostGlob::Exact(host);
            if let Ok(host) = Host::parse(text) {
                return Ok(Self {
                    host: exact(host),
                    port: None,
                });
            }
            let target = Target::parse(text, None)?;
            return Ok(Self {
                host: exact(target.host),
                port: Some(target.port),
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(super::host::parse_port(port)?)),
            None => (text, None),
        };
        let host = host.to_ascii_lowercase();
        if host == "*" {
            return Ok(Self {
                host: HostGlob::Any,
                port,
            });
        }
        let spelled = spelled(&host)?;
        let glob = match host.strip_prefix("*.") {
            Some(suffix) if !suffix.contains('*') => match Host::parse(suffix)? {
                Host::Name(name) => HostGlob::Below(name.to_string()),
                Host::Ip(_) => return Err(super::host::BadHost::Invalid.into()),
            },
            _ => HostGlob::Inner(spelled),
        };
        Ok(Self { host: glob, port })
    }

    /// Whether it speaks of `target`. One pattern at a time; many go into a [`HostMap`].
    pub fn matches(&self, target: &Target) -> bool {
        self.port_matches(target.port) && self.host.matches(&target.host)
    }

    fn port_matches(&self, port: u16) -> bool {
        self.port.map_or(port == 443 || port == 80, |p| p == port)
    }
}

/// The pattern in the one spelling that hosts have. It must be a host once the stars are letters.
fn spelled(glob: &str) -> Result<String, BadPattern> {
    let glob = glob.strip_suffix('.').unwrap_or(glob);
    let Host::Name(name) = Host::parse(&glob.replace('*', "x"))? else {
        return Err(BadPattern::Label);
    };
    if glob.split('.').count() != name.split('.').count() {
        return Err(BadPattern::Label);
    }
    let labels = glob.split('.').zip(name.split('.')).map(|(glob, name)| {
        let literal = !glob.contains('*');
        let label = if literal { name } else { glob };
        (literal || glob.replace('*', "x") == name).then_some(label)
    });
    let labels: Option<Vec<_>> = labels.collect();
    Ok(labels.ok_or(BadPattern::Label)?.join("."))
}

impl HostGlob {
    /// Whether it stands for `host`, on whatever port.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(exact), host) => exact == host,
            (Self::Below(suffix), Host::Name(name)) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Self::Inner(glob), Host::Name(name)) => labels_match(glob, name),
            (Self::Below(_) | Self::Inner(_), Host::Ip(_)) => false,
        }
    }
}

/// Label by label; a leading `*` label takes one or more labels, any other `*` stays in its own.
fn labels_match(glob: &str, name: &str) -> bool {
    let (mut globs, mut names) = (glob.rsplit('.'), name.rsplit('.'));
    loop {
        match (globs.next(), names.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) if globs.clone().next().is_none() => return true,
            (Some(glob), Some(label)) if label_matches(glob.as_bytes(), label.as_bytes()) => {}
            _ => return false,
        }
    }
}

fn label_matches(glob: &[u8], label: &[u8]) -> bool {
    // Greedy with one point to go back to: linear for a single star, quadratic at worst, and
    // labels have at most 63 octets.
    let (mut g, mut l) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while l < label.len() {
        if glob.get(g) == Some(&b'*') {
            back = Some((g, l));
            g += 1;
        } else if glob.get(g) == label.get(l) {
            g += 1;
            l += 1;
        } else if let Some((star, from)) = back {
            back = Some((star, from + 1));
            g = star + 1;
            l = from + 1;
        } else {
            return false;
        }
    }
    glob.get(g..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

/// From targets to the values whose patterns match them, in order of insertion.
///
/// Exact hosts and `*.suffix` are hash lookups, one a label; patterns with an inner `*` are tried
/// only under the literal suffix they share with the name. So a lookup costs what the name has
/// labels, however many patterns there are.
#[derive(Debug)]
pub struct HostMap<T> {
    any: Vec<Entry<T>>,
    addresses: Under<IpAddr, Entry<T>>,
    exact: Under<Box<str>, Entry<T>>,
    below: Under<Box<str>, Entry<T>>,
    inner: Under<Box<str>, (String, Entry<T>)>,
}

type Under<K, E> = HashMap<K, Vec<E>, foldhash::fast::RandomState>;

#[derive(Debug)]
struct Entry<T> {
    port: Option<u16>,
    value: T,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self {
            any: Vec::new(),
            addresses: HashMap::default(),
            exact: HashMap::default(),
            below: HashMap::default(),
            inner: HashMap::default(),
        }
    }
}

impl<T: Copy + Ord> HostMap<T> {
    /// Adds `value` under `pattern`.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) {
        let entry = Entry {
            port: pattern.port,
            value,
        };
        match &pattern.host {
            HostGlob::Any => self.any.push(entry),
            HostGlob::Exact(Host::Ip(ip)) => self.addresses.entry(*ip).or_default().push(entry),
            HostGlob::Exact(Host::Name(name)) => self.exact.entry((&**name).into()).or_default().push(entry),
            HostGlob::Below(suffix) => self.below.entry(suffix.as_str().into()).or_default().push(entry),
            HostGlob::Inner(glob) => {
                let literal = literal_suffix(glob);
                self.inner
                    .entry(literal.into())
                    .or_default()
                    .push((glob.clone(), entry));
            }
        }
    }

    /// Every value whose pattern matches `target`, least first, each once.
    pub fn lookup(&self, target: &Target) -> Vec<T> {
        let mut found: Vec<T> = Vec::new();
        let mut take = |entries: &[Entry<T>]| {
            found.extend(
                entries
                    .iter()
                    .filter(|e| entry_port(e.port, target.port))
                    .map(|e| e.value),
            );
        };
        take(&self.any);
        match &target.host {
            Host::Ip(ip) => take(self.addresses.get(ip).map_or(&[], Vec::as_slice)),
            Host::Name(name) => {
                take(self.exact.get(&**name).map_or(&[], Vec::as_slice));
                for suffix in suffixes(name) {
                    if suffix.len() < name.len() {
                        take(self.below.get(suffix).map_or(&[], Vec::as_slice));
                    }
                }
                if !self.inner.is_empty() {
                    let near = suffixes(name).chain(std::iter::once(""));
                    let near = near.filter_map(|suffix| self.inner.get(suffix)).flatten();
                    let matching =
                        near.filter(|(glob, entry)| labels_match(glob, name) && entry_port(entry.port, target.port));
                    found.extend(matching.map(|(_, entry)| entry.value));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn entry_port(wanted: Option<u16>, port: u16) -> bool {
    wanted.map_or(port == 443 || port == 80, |p| p == port)
}

/// `a.b.c`, `b.c`, `c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |rest| rest.split_once('.').map(|(_, tail)| tail))
}

/// The labels after the last one that holds a star.
fn literal_suffix(glob: &str) -> &str {
    let after = glob.rfind('*').map_or(glob, |at| glob.get(at..).unwrap_or_default());
    after.split_once('.').map_or("", |(_, tail)| tail)
}

/// One entry of a rule's `allow`: a method and a path pattern, such as `GET /v1/models/**`.
#[derive(Debug, Clone)]
pub struct Allow {
    method: Option<String>,
    path: PathGlob,
    /// The same in lower case, for rules that deny.
    folded: PathGlob,
    text: String,
}

#[derive(Debug, Clone)]
enum PathGlob {
    Any,
    Exact(String),
    Under(String),
    /// The pattern, and where it ends in `/**` the pattern without that.
    Glob(GlobMatcher, Option<GlobMatcher>),
}

impl Allow {
    /// Reads `METHOD /path` or `/path` alone. In the path `*` stays within one segment and `**`
    /// crosses them; `/x/**` is everything below `/x/` and `/x` itself.
    ///
    /// # Errors
    /// When the method, the path or the glob is none.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let (method, path) = match text.split_once(char::is_whitespace) {
            Some((method, path)) => (method, path.trim_start()),
            None => ("*", text),
        };
        let method = match method {
            "*" => None,
            m if !m.is_empty() && m.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => Some(m.to_owned()),
            other => return Err(BadPattern::Method(other.to_owned())),
        };
        Ok(Self {
            method,
            path: PathGlob::parse(path)?,
            folded: PathGlob::parse(&path.to_ascii_lowercase())?,
            text: text.to_owned(),
        })
    }

    /// Whether it allows this method on this normalised path (no query).
    pub fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|m| m == method) && self.path.matches(path)
    }

    /// Whether it forbids this method on this normalised path, where it stands in a rule that denies.
    ///
    /// Servers differ: some compare paths without case, drop `;` parameters, take an encoded slash for a slash or a
    /// last slash for none. What any of them could take for a forbidden path is one.
    pub fn forbids(&self, method: &str, path: &str) -> bool {
        let broad = || {
            let lower = path.to_ascii_lowercase().replace("%2f", "/");
            // A `?` or `#` in a decoded path was encoded; read once more, the path ends there.
            let lower = lower.split(['?', '#']).next().unwrap_or_default();
            let segments = lower.split('/').map(|s| s.split(';').next().unwrap_or(s).trim());
            segments.collect::<Vec<_>>().join("/")
        };
        let is_method = |m: &str| m.eq_ignore_ascii_case(method);
        self.method.as_deref().is_none_or(is_method)
            && (self.path.matches(path) || {
                let broad = broad();
                let short = broad.strip_suffix('/').filter(|rest| !rest.is_empty());
                self.folded.matches(&broad) || short.is_some_and(|short| self.folded.matches(short))
            })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Allow {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl PathGlob {
    fn parse(text: &str) -> Result<Self, BadPattern> {
        if !text.starts_with('/') {
            return Err(BadPattern::Path);
        }
        let meta = |t: &str| t.contains(['*', '?', '[', '{', '\\']);
        let base = text.trim_end_matches("/**");
        let ends = base.len() == text.len();
        match (base, meta(base)) {
            ("", _) => Ok(Self::Any),
            (exact, false) if ends => Ok(Self::Exact(exact.to_owned())),
            (under, false) => Ok(Self::Under(under.to_owned())),
            (glob, true) if ends => Ok(Self::Glob(compiled(glob)?, None)),
            (glob, true) => Ok(Self::Glob(compiled(&format!("{glob}/**"))?, Some(compiled(glob)?))),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == path,
            Self::Under(under) => path
                .strip_prefix(under.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Glob(glob, itself) => {
                glob.is_match(path) || itself.as_ref().is_some_and(|itself| itself.is_match(path))
            }
        }
    }
}

fn compiled(glob: &str) -> Result<GlobMatcher, BadPattern> {
    let glob = GlobBuilder::new(glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build();
    glob.map(|g| g.compile_matcher())
        .map_err(|e| BadPattern::Glob(e.kind().to_string()))
}

#[cfg(test)]
mod tests;
