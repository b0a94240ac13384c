//! Peer and what it offered → agent. Unknown is refused; nothing here knows a rule.

mod certificate;
#[cfg(test)]
mod tests;

pub use certificate::Shown;

use crate::base::ids::{AgentId, SecretId};
use crate::base::peer::Peer;
use crate::base::secret::IsToken;
use crate::config::Config;
use crate::config::model::Proof;
use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use certificate::{Authorities, Judged, Wanted};
use http::HeaderValue;
use http::header::{HeaderMap, HeaderName, PROXY_AUTHORIZATION};
use std::path::PathBuf;

/// Who may ask, and what proves it.
#[derive(Debug)]
pub struct Identity {
    agents: Vec<Vec<Check>>,
    authorities: Authorities,
    certificates: bool,
}

#[derive(Debug)]
enum Check {
    Nothing,
    Token(IsToken),
    Hash([u8; 32]),
    Uid(u32),
    Cid(u32),
    Network(ipnet::IpNet),
    Certificate(Wanted),
}

/// Nobody we know: answered with 407.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Nothing was offered, and the connection itself proves nothing.
    #[error("no agent is known by this connection, and no token was offered")]
    Silent,
    /// What was offered fits no agent.
    #[error("the token offered is no agent's")]
    Wrong,
    /// A certificate was shown, and no token was offered beside it. Why it fits no agent is for the operator.
    #[error("the client certificate is no agent's, and no token was offered")]
    Uncertified(String),
}

/// The certificates of a client CA cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the client CA in {}: {why}; `ca` of `client_certificate` takes PEM certificates", path.display())]
pub struct Error {
    path: PathBuf,
    why: String,
}

impl Identity {
    /// Takes the agents of `config`; `token` makes the test for the secret an agent is known by.
    ///
    /// # Errors
    /// When the file of a client CA cannot be read.
    pub fn new(config: &Config, token: impl Fn(SecretId) -> IsToken) -> Result<Self, Error> {
        let mut authorities = Authorities::default();
        let mut check = |proof: &Proof| {
            Ok(match proof {
                Proof::Token(id) => Check::Token(token(*id)),
                Proof::TokenHash(hash) => Check::Hash(*hash),
                Proof::PeerUid(uid) => Check::Uid(*uid),
                Proof::VsockCid(cid) => Check::Cid(*cid),
                Proof::Address(net) => Check::Network(*net),
                Proof::Certificate(proof) => Check::Certificate(authorities.wanted(proof)?),
            })
        };
        let mut agents = Vec::with_capacity(config.agents.len());
        for agent in &config.agents {
            let checks: Vec<Check> = agent.proofs.iter().map(&mut check).collect::<Result<_, Error>>()?;
            agents.push(if checks.is_empty() {
                vec![Check::Nothing]
            } else {
                checks
            });
        }
        Ok(Self {
            certificates: agents
                .iter()
                .flatten()
                .any(|check| matches!(check, Check::Certificate(_))),
            agents,
            authorities,
        })
    }

    /// Whether some agent is known by a certificate, so that a TLS listener asks for one.
    pub fn asks_for_certificates(&self) -> bool {
        self.certificates
    }

    /// The agent behind a connection on which `shown` came in the TLS handshake and `offered` as its
    /// `Proxy-Authorization`.
    ///
    /// A token counts before a certificate, and both before where the connection comes from, so that several
    /// agents may share an address.
    ///
    /// # Errors
    /// When nothing fits any agent.
    pub fn agent(&self, peer: &Peer, shown: Option<&Shown>, offered: Option<&HeaderValue>) -> Result<AgentId, Unknown> {
        let token = offered.and_then(offered_token);
        if let Some(agent) = token.as_deref().and_then(|token| self.find(|check| check.token(token))) {
            return Ok(agent);
        }
        let judged = shown
            .filter(|_| self.certificates)
            .and_then(|shown| self.authorities.judge(shown));
        let by_certificate = judged
            .as_ref()
            .and_then(|judged| self.find(|check| check.certificate(judged)));
        let found = by_certificate.or_else(|| self.find(|check| check.peer(peer)));
        found.ok_or_else(|| match (offered, judged) {
            (Some(_), _) => Unknown::Wrong,
            (None, Some(judged)) => Unknown::Uncertified(judged.reason()),
            (None, None) => Unknown::Silent,
        })
    }

    /// Whether this is some agent's token.
    pub fn knows(&self, token: &[u8]) -> bool {
        self.find(|check| check.token(token)).is_some()
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
            _ => false,
        }
    }

    fn certificate(&self, judged: &Judged<'_>) -> bool {
        matches!(self, Self::Certificate(wanted) if judged.fits(wanted))
    }

    fn peer(&self, peer: &Peer) -> bool {
        match (self, peer) {
            (Self::Nothing, _) => true,
            (Self::Uid(wanted), Peer::Unix { uid }) => wanted == uid,
            (Self::Cid(wanted), Peer::Vsock { cid, .. }) => wanted == cid,
            (Self::Network(net), Peer::Tcp(address)) => net.contains(&address.ip().to_canonical()),
            _ => false,
        }
    }
}

/// What a request offers to be known by, marked so that nothing prints it. Who offers two things at once offers
/// nothing that counts: another reader might have taken the other one.
pub fn offer(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut all = headers.get_all(PROXY_AUTHORIZATION).iter();
    let first = all.next()?;
    let mut offered = if all.next().is_some() {
        HeaderValue::from_static("")
    } else {
        first.clone()
    };
    offered.set_sensitive(true);
    Some(offered)
}

/// What stands for `Proxy-Authorization` with clients that can send nothing but an upstream's credential: the first of
/// its usual fields whose value `is_token`. Every field that has that value goes.
pub fn taken_from(headers: &mut HeaderMap, is_token: impl Fn(&[u8]) -> bool) -> Option<HeaderValue> {
    let token_in = |value: &HeaderValue| offered_token(value).unwrap_or_else(|| value.as_bytes().to_vec());
    let mut found = None;
    for name in CREDENTIAL_FIELDS {
        let mut tokens = headers.get_all(&name).iter().map(token_in);
        if let Some(token) = tokens.find(|token| is_token(token)) {
            found = found.or_else(|| offer_of(&token));
            headers.remove(name);
        }
    }
    found
}

/// Where APIs take a key.
const CREDENTIAL_FIELDS: [HeaderName; 4] = [
    http::header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// A token as the password of a Basic credential, for ways in that have no header of their own.
pub fn offer_of(token: &[u8]) -> Option<HeaderValue> {
    let pair = [b":", token].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::try_from(format!("Basic {text}")).ok()?;
    value.set_sensitive(true);
    Some(value)
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
