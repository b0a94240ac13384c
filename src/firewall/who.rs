//! Whose traffic is sent to Keyferry: users, control groups, what comes in by an interface, a whole network.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Whose traffic it is; all of them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// What programs of these users send.
    pub uids: Vec<User>,
    /// What programs in these control groups send.
    pub cgroups: Vec<Cgroup>,
    /// What comes in by these interfaces.
    pub interfaces: Vec<Interface>,
    /// What anybody in this network sends, except who is spared; and nothing passes through it.
    pub everybody: bool,
}

impl Who {
    pub(super) fn is_nobody(&self) -> bool {
        !self.is_local() && self.interfaces.is_empty()
    }

    /// Whether programs of this very network are meant.
    pub(super) fn is_local(&self) -> bool {
        self.everybody || !self.uids.is_empty() || !self.cgroups.is_empty()
    }
}

/// A user, by number; read from a name too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User(pub u32);

/// Why a word means nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No user of that name.
    #[error("there is no user `{0}` in /etc/passwd; write the number of one that is elsewhere")]
    User(String),
    /// Rules do not hold whoever may change them.
    #[error("root can change any firewall rule: run the agent as another user, or in a network namespace of its own")]
    Root,
    /// The number stands for nobody.
    #[error("{0} is no user id")]
    Number(String),
    /// Control groups are not where nft and iptables look for them.
    #[error("no cgroup2 file system is mounted below /sys/fs/cgroup")]
    NoCgroups,
    /// No control group of that name.
    #[error("there is no control group `{path}` below {}; make it first, for rules hold on to the group itself", root.display())]
    Cgroup {
        /// As given.
        path: String,
        /// Where the file system is mounted.
        root: PathBuf,
    },
    /// It cannot be written in a rule.
    #[error("`{0}` holds a character that no rule can: only letters, digits and `-_.@:/` are taken")]
    Letters(String),
    /// The root of all control groups.
    #[error("the root group holds everything: use `--all`")]
    Everything,
    /// It can be no interface's name.
    #[error(
        "`{0}` is no interface: at most 15 letters, digits and `-_.@:`, with a `*` at its end for all that begin so"
    )]
    Interface(String),
    /// It can be no table's name.
    #[error("`{0}` is no name for rules: at most 12 lower-case letters and digits")]
    Name(String),
}

impl FromStr for User {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        if text.starts_with(|letter: char| letter.is_ascii_digit()) {
            // The highest number stands for "no user" (setreuid(2)).
            let number = text.parse().ok().filter(|number| *number < u32::MAX);
            return number.map(Self).ok_or_else(|| Unknown::Number(text.to_owned()));
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == text).then(|| fields.nth(1)?.parse().ok()).flatten()
        });
        found.map(Self).ok_or_else(|| Unknown::User(text.to_owned()))
    }
}

impl User {
    /// Reads an agent's user.
    ///
    /// # Errors
    /// When there is none of that name, or it is root.
    pub fn agent(text: &str) -> Result<Self, Unknown> {
        match text.parse()? {
            Self(0) => Err(Unknown::Root),
            user => Ok(user),
        }
    }
}

/// A control group of version 2, and all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// From the root of the cgroup2 file system, as iptables wants it.
    pub(super) path: String,
    /// From `/sys/fs/cgroup`, as nft wants it: on machines with both versions the file system is mounted below.
    pub(super) below: String,
    /// How deep it lies below its root.
    pub(super) level: usize,
}

/// Where nft looks for control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

impl FromStr for Cgroup {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = cgroup2(&mounts).ok_or(Unknown::NoCgroups)?;
        let given = Path::new(text);
        let path = given.strip_prefix(&root).unwrap_or(given);
        let path = path.strip_prefix("/").unwrap_or(path).to_string_lossy();
        let path = path.trim_end_matches('/');
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.@:/".contains(letter);
        if !path.chars().all(fits) {
            return Err(Unknown::Letters(text.to_owned()));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let path = parts.join("/");
        if path.is_empty() {
            return Err(Unknown::Everything);
        }
        let there = root.join(&path);
        if parts.iter().any(|part| matches!(*part, "." | "..")) || !there.is_dir() {
            return Err(Unknown::Cgroup { path, root });
        }
        let below = there.strip_prefix(CGROUPS).map_err(|_| Unknown::NoCgroups)?;
        Ok(Self {
            below: below.to_string_lossy().into_owned(),
            level: parts.len(),
            path,
        })
    }
}

/// Where control groups of version 2 are mounted (proc_pid_mountinfo(5): the type follows a lone hyphen).
fn cgroup2(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?
    });
    lines.find(|at| at.starts_with(CGROUPS)).map(PathBuf::from)
}

/// An interface, or all whose names begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface(String);

impl FromStr for Interface {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let name = text.strip_suffix('*').unwrap_or(text);
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.@:".contains(letter);
        // IFNAMSIZ, less the closing zero.
        if name.is_empty() || text.len() > 15 || name == "lo" || !name.chars().all(fits) {
            return Err(Unknown::Interface(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Interface {
    /// As nft has it: with a `*` for all that begin so.
    pub(super) fn starred(&self) -> &str {
        &self.0
    }

    /// As iptables has it: with a `+`.
    pub(super) fn plussed(&self) -> String {
        self.0.replace('*', "+")
    }
}

/// What tells one set of rules from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl FromStr for Name {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        if text.is_empty() || text.len() > 12 || !text.chars().all(fits) {
            return Err(Unknown::Name(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Name {
    /// What an operator calls them who has one set of rules.
    pub const ONLY: &str = "keyferry";

    /// What begins the names of chains in tables that are not ours: a chain's name has at most 28 letters.
    pub(super) fn prefix(&self) -> String {
        format!("KF_{}_", self.0)
    }
}

/// As our table is called.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            Self::ONLY => f.write_str(Self::ONLY),
            other => write!(f, "keyferry_{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_user_is_a_number_or_a_name_and_an_agent_is_not_root() {
        assert_eq!("1001".parse(), Ok(User(1001)));
        assert_eq!("root".parse(), Ok(User(0)));
        assert_eq!(User::agent("root"), Err(Unknown::Root));
        for bad in ["4294967295", "99999999999", "12x"] {
            assert_eq!(bad.parse::<User>(), Err(Unknown::Number(bad.to_owned())));
        }
        for bad in ["", "no-such-user", "-1", "root:x"] {
            assert_eq!(bad.parse::<User>(), Err(Unknown::User(bad.to_owned())));
        }
    }

    #[test]
    fn control_groups_are_found_where_they_are_mounted() {
        let hybrid = "31 24 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      42 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(cgroup2("1 2 3:4 / /mnt rw - cgroup2 cgroup2 rw\n"), None);
    }

    #[test]
    fn what_no_rule_can_hold_is_refused() {
        for bad in ["a b", "a\"; drop", "ä", "a\n"] {
            assert_eq!(bad.parse::<Cgroup>(), Err(Unknown::Letters(bad.to_owned())), "{bad:?}");
        }
        assert_eq!("/".parse::<Cgroup>(), Err(Unknown::Everything));
        for bad in ["no/such/group", "a/../b", "."] {
            assert!(matches!(bad.parse::<Cgroup>(), Err(Unknown::Cgroup { .. })), "{bad}");
        }
        for bad in ["", "*", "lo", "sixteen-letters0", "a b", "a*b", "a\"", "ä"] {
            assert_eq!(bad.parse::<Interface>(), Err(Unknown::Interface(bad.to_owned())));
        }
        assert_eq!("veth*".parse::<Interface>().unwrap().plussed(), "veth+");
        for bad in ["", "Agent", "a-b", "thirteenchars"] {
            assert_eq!(bad.parse::<Name>(), Err(Unknown::Name(bad.to_owned())));
        }
    }
}
