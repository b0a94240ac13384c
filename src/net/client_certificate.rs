//! The client's side of mutual TLS: a certificate with its key, shown to the upstreams of one rule, and what an upstream
//! says of it. Sessions made with it are kept with it, so that none is taken up without it.

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig};
use std::hash::{Hash, Hasher};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// A certificate that Keyferry shows, with its key. Two are the same when they were made of the same values.
pub struct ClientCertificate {
    /// Of the values it was made of, which no others have.
    versions: (u64, u64),
    shown: Arc<dyn ResolvesClientCert>,
    sessions: Resumption,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

/// Why there is nothing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No certificate in PEM.
    #[error("it holds no certificate in PEM; put the client's own first, then those that vouch for it")]
    NoCertificate,
    /// No private key in PEM.
    #[error("it holds no private key in PEM")]
    NoKey,
    /// A key under a passphrase.
    #[error("its private key is encrypted; store it without a passphrase (`openssl pkey -in KEY -out PLAIN`)")]
    Encrypted,
    /// A key of another kind.
    #[error("its private key is none of RSA, EC (P-256, P-384, P-521) and Ed25519")]
    Kind,
    /// The key is another's.
    #[error("the private key is not that of the certificate")]
    Mismatch,
    /// Its time is over.
    #[error("the certificate expired on {}; renew it, or is this machine's clock wrong?", day(.0))]
    Expired(OffsetDateTime),
    /// Its time has not come.
    #[error("the certificate is good from {} on; is this machine's clock right?", day(.0))]
    Early(OffsetDateTime),
}

fn day(time: &OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    time.format(form).unwrap_or_default()
}

/// Sessions kept for resumption with one certificate.
const SESSIONS: usize = 64;

impl ClientCertificate {
    /// Reads a chain, the client's own certificate first, and the key, both PEM. `versions` tell the values from others.
    ///
    /// # Errors
    /// When either is not what it should be, or they do not belong together.
    pub fn read(chain: &[u8], key: &[u8], versions: (u64, u64)) -> Result<Self, Unfit> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| Unfit::NoCertificate)?;
        let leaf = chain.first().ok_or(Unfit::NoCertificate)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| Unfit::NoCertificate)?;
        let time = |time: x509_parser::time::ASN1Time| {
            OffsetDateTime::from_unix_timestamp(time.timestamp()).map_err(|_| Unfit::NoCertificate)
        };
        let (from, until) = (time(leaf.validity().not_before)?, time(leaf.validity().not_after)?);
        let der = match PrivateKeyDer::from_pem_slice(key) {
            _ if is_encrypted(key) => return Err(Unfit::Encrypted),
            Ok(der) => der,
            Err(_) => return Err(Unfit::NoKey),
        };
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|_| Unfit::Kind)?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match().map_err(|_| Unfit::Mismatch)?;
        Ok(Self {
            versions,
            shown: Arc::new(SingleCertAndKey::from(certified)),
            sessions: Resumption::in_memory_sessions(SESSIONS),
            from,
            until,
        })
    }

    /// Whether it was made of these values.
    pub fn is_of(&self, versions: (u64, u64)) -> bool {
        self.versions == versions
    }

    /// Whether this is its time (RFC 5280 §4.1.2.5).
    ///
    /// # Errors
    /// When it has expired, or is not good yet.
    pub fn in_time(&self) -> Result<(), Unfit> {
        let now = OffsetDateTime::now_utc();
        if now > self.until {
            return Err(Unfit::Expired(self.until));
        }
        if now < self.from {
            return Err(Unfit::Early(self.from));
        }
        Ok(())
    }

    /// The same settings, with this certificate to show and sessions of its own.
    pub(super) fn dress(&self, plain: &ClientConfig) -> ClientConfig {
        let mut config = plain.clone();
        config.client_auth_cert_resolver = Arc::clone(&self.shown);
        config.resumption = self.sessions.clone();
        config
    }
}

/// RFC 5958 §3 and RFC 1421 §4.6.1.1.
fn is_encrypted(pem: &[u8]) -> bool {
    let holds = |text: &str| memchr::memmem::find(pem, text.as_bytes()).is_some();
    holds("BEGIN ENCRYPTED PRIVATE KEY") || holds("Proc-Type: 4,ENCRYPTED")
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.versions == other.versions
    }
}

impl Eq for ClientCertificate {}

impl Hash for ClientCertificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.versions.hash(state);
    }
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// What an upstream said of the certificate it was shown, or not shown. In TLS 1.3 it says so after the client takes the
/// handshake for done (RFC 8446 §4.4.2.4), and so in the place of an answer. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdict(Arc<OnceLock<AlertDescription>>);

impl Verdict {
    /// The alert, if there was one.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        self.0.get().copied()
    }

    /// Takes note of an error that is such an alert.
    pub(super) fn hear(&self, error: &io::Error) {
        use AlertDescription as A;
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner
            && matches!(
                alert,
                A::BadCertificate
                    | A::UnsupportedCertificate
                    | A::CertificateRevoked
                    | A::CertificateExpired
                    | A::CertificateUnknown
                    | A::UnknownCA
                    | A::AccessDenied
                    | A::CertificateRequired
            )
        {
            // The first one ended the connection.
            let _ = self.0.set(*alert);
        }
    }
}

/// A stream whose reads are listened to for a [`Verdict`].
#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    verdict: Verdict,
    /// A write that failed, while it is not known why.
    failed: Option<io::Error>,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, verdict: &Verdict) -> Self {
        Self {
            stream,
            verdict: verdict.clone(),
            failed: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if let Err(error) = &read {
            self.verdict.hear(error);
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + Unpin> Heard<S> {
    /// Who refuses a certificate ends the connection, and a write may meet the end before a read has met the reason. So a
    /// failure waits until what came before the end has been taken in: by a read of nothing, which leaves it there.
    fn look<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(failed)) = written else {
            return written;
        };
        match Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut [])) {
            Poll::Ready(read) => {
                if let Err(error) = read {
                    self.verdict.hear(&error);
                }
                Poll::Ready(Err(failed))
            }
            Poll::Pending => {
                self.failed = Some(failed);
                Poll::Pending
            }
        }
    }

    /// The failure that waits.
    fn failed<T>(&mut self) -> Option<Poll<io::Result<T>>> {
        self.failed.take().map(|failed| Poll::Ready(Err(failed)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let failed = self.failed();
        let written = failed.unwrap_or_else(|| Pin::new(&mut self.stream).poll_write(cx, buf));
        self.look(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let failed = self.failed();
        let flushed = failed.unwrap_or_else(|| Pin::new(&mut self.stream).poll_flush(cx));
        self.look(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let failed = self.failed();
        let written = failed.unwrap_or_else(|| Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.look(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
