//! Small numbers that stand for things named in the config. Names are resolved to them while the
//! config is checked, so that nothing looks up a string on the data path.

/// Position of a secret in [`crate::config::Config::secrets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretId(pub u32);

/// Position of a rule in [`crate::config::Config::rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// Position of an agent in [`crate::config::Config::agents`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub u32);

impl SecretId {
    /// The position as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl RuleId {
    /// The position as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl AgentId {
    /// The position as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
