//! Peer and what it offered → agent. Unknown is refused; nothing here knows a rule.

use crate::base::ids::{AgentId, SecretId};
use crate::base::peer::Peer;
use crate::base::secret::IsToken;
use crate::config::Config;
use crate::config::model::Proof;
use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use http::HeaderValue;

/// Who may ask, and what proves it.
#[derive(Debug)]
pub struct Identity {
    agents: Vec<Vec<Check>>,
}

#[derive(Debug)]
enum Check {
    Nothing,
    Token(IsToken),
    Hash([u8; 32]),
    Uid(u32),
    Network(ipnet::IpNet),
}

/// Nobody we know: answered with 407.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Nothing was offered, and the connection itself proves nothing.
    #[error("no agent is known by this connection, and no token was offered")]
    Silent,
    /// What was offered fits no agent.
    #[error("the token offered is no agent's")]
    Wrong,
}

impl Identity {
    /// Takes the agents of `config`; `token` makes the test for the secret an agent is known by.
    pub fn new(config: &Config, token: impl Fn(SecretId) -> IsToken) -> Self {
        let check = |proof: &Proof| match proof {
            Proof::Token(id) => Check::Token(token(*id)),
            Proof::TokenHash(hash) => Check::Hash(*hash),
            Proof::PeerUid(uid) => Check::Uid(*uid),
            Proof::Address(net) => Check::Network(*net),
        };
        let agents = config.agents.iter().map(|agent| {
            if agent.proofs.is_empty() {
                return vec![Check::Nothing];
            }
            agent.proofs.iter().map(check).collect()
        });
        Self {
            agents: agents.collect(),
        }
    }

    /// The agent behind a connection that offered `offered` as its `Proxy-Authorization`.
    ///
    /// A token counts before the connection's own properties, so that several agents may share an address.
    ///
    /// # Errors
    /// When nothing fits any agent.
    pub fn agent(&self, peer: &Peer, offered: Option<&HeaderValue>) -> Result<AgentId, Unknown> {
        let token = offered.and_then(offered_token);
        let by_token = token.as_deref().and_then(|token| self.find(|check| check.token(token)));
        let found = by_token.or_else(|| self.find(|check| check.peer(peer)));
        found.ok_or(if offered.is_some() {
            Unknown::Wrong
        } else {
            Unknown::Silent
        })
    }

    fn find(&self, fits: impl Fn(&Check) -> bool) -> Option<AgentId> {
        let at = self.agents.iter().position(|checks| checks.iter().any(&fits))?;
        u32::try_from(at).ok().map(AgentId)
    }
}

impl Check {
    fn token(&self, offered: &[u8]) -> bool {
        match self {
            Self::Token(token) => token.matches(offered),
            Self::Hash(hash) => {
                let digest = digest::digest(&digest::SHA256, offered);
                constant_time::verify_slices_are_equal(digest.as_ref(), hash).is_ok()
            }
            Self::Nothing | Self::Uid(_) | Self::Network(_) => false,
        }
    }

    fn peer(&self, peer: &Peer) -> bool {
        match (self, peer) {
            (Self::Nothing, _) => true,
            (Self::Uid(wanted), Peer::Unix { uid }) => wanted == uid,
            (Self::Network(net), Peer::Tcp(address)) => net.contains(&address.ip().to_canonical()),
            _ => false,
        }
    }
}

/// The token in `Bearer T` or in the password of `Basic base64(user:T)` (RFC 7617 §2).
pub fn offered_token(value: &HeaderValue) -> Option<Vec<u8>> {
    let text = value.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|b| *b == b':')?;
    Some(pair.get(colon + 1..)?.to_vec())
}
