//! Agents as meant: who they are, and what proves it.

use crate::base::ids::SecretId;
use ipnet::IpNet;
use std::path::PathBuf;
use std::sync::Arc;

/// An agent and what proves that it is the one.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// As the config names it; `default` when none is configured.
    pub name: Arc<str>,
    /// Any one of these suffices. Empty: nothing needs to be shown (only for the sole `default` agent).
    pub proofs: Vec<Proof>,
}

/// What identifies an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A secret in `Proxy-Authorization`: Basic (user = the agent's name, or anything) or Bearer.
    Token(SecretId),
    /// The SHA-256 of such a secret.
    TokenHash([u8; 32]),
    /// The uid of the process on the other side of a unix socket.
    PeerUid(u32),
    /// The context id of a virtual machine on the other side of a vsock connection; 3 or above.
    VsockCid(u32),
    /// The source address of a TCP connection.
    Address(IpNet),
    /// A certificate shown in the handshake of a TLS listener.
    Certificate(CertificateProof),
}

/// Which client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateProof {
    /// The one with this SHA-256, over its DER encoding; whoever issued it.
    Fingerprint([u8; 32]),
    /// Any with this public key: the SHA-256 over its DER `SubjectPublicKeyInfo` (RFC 7469 §2.4).
    PublicKey([u8; 32]),
    /// Any that was issued below this CA, for client authentication, with this name.
    Named {
        /// PEM certificates of the CA, read when the config is taken up.
        ca: PathBuf,
        /// The name.
        name: CertificateName,
    },
}

/// A subject alternative name (RFC 5280 §4.2.1.6), compared whole: a wildcard in a certificate stands for nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    /// A DNS name, in lower case.
    Dns(Arc<str>),
    /// A URI, such as a SPIFFE ID.
    Uri(Arc<str>),
}
