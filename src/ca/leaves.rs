//! Leaves by host, each as the TLS settings that present it: bounded, minted once however many wait.

use super::Error;
use super::asking::Asking;
use super::authority::Authority;
use crate::base::host::Host;
use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use time::OffsetDateTime;

/// The leaves in use.
///
/// The cache is cut into shards, each with a lock of its own that readers share, and a mint happens
/// outside of it: hosts do not wait for one another.
#[derive(Debug)]
pub struct Leaves {
    authority: Arc<Authority>,
    cache: Cache<Host, Kept, quick_cache::UnitWeighter, RandomState>,
    /// All settings but the certificate and the host that tickets are bound to.
    template: ServerConfig,
    /// The same, for a listener that asks for the client's certificate.
    asking: ServerConfig,
    tickets: Arc<dyn ProducesTickets>,
    minted: AtomicU64,
    clock: fn() -> OffsetDateTime,
}

#[derive(Debug, Clone)]
struct Kept {
    config: Arc<ServerConfig>,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Leaves {
    /// Keeps up to about `capacity` leaves of this CA.
    ///
    /// # Errors
    /// When the cryptographic library gives no random key for session tickets.
    pub fn new(authority: Arc<Authority>, capacity: usize) -> Result<Self, Error> {
        Self::with_clock(authority, capacity, OffsetDateTime::now_utc)
    }

    fn with_clock(authority: Arc<Authority>, capacity: usize, clock: fn() -> OffsetDateTime) -> Result<Self, Error> {
        let refused = |what| {
            move |e: rustls::Error| Error::Crypto {
                what,
                why: e.to_string(),
            }
        };
        let tickets = provider::Ticketer::new().map_err(refused("make a key for session tickets"))?;
        let capacity = capacity.max(1);
        Ok(Self {
            authority,
            cache: Cache::with(
                capacity,
                capacity as u64,
                quick_cache::UnitWeighter,
                RandomState::new(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            template: template(WebPkiClientVerifier::no_client_auth()).map_err(refused("set up TLS"))?,
            asking: template(Arc::new(Asking::new())).map_err(refused("set up TLS"))?,
            tickets,
            minted: AtomicU64::new(0),
            clock,
        })
    }

    /// The TLS settings with which to meet an agent that asks for `host`.
    ///
    /// A leaf is made again after half of its life, so that no connection starts on one about to
    /// end. It is made in place: with an EC key that takes tens of microseconds, with RSA a
    /// millisecond, once per host and some days.
    ///
    /// # Errors
    /// When no leaf can be minted; everyone who waited then tries in turn.
    pub async fn server_config(&self, host: &Host) -> Result<Arc<ServerConfig>, Error> {
        Ok(self.kept(host).await?.config)
    }

    /// The same, asking for the client's certificate as well; one without is served all the same. No session
    /// is resumed there: each connection proves anew that it holds the key.
    ///
    /// # Errors
    /// When no leaf can be minted.
    pub async fn server_config_asking(&self, host: &Host) -> Result<Arc<ServerConfig>, Error> {
        let kept = self.kept(host).await?;
        let mut config = self.asking.clone();
        config.cert_resolver = Arc::clone(&kept.config.cert_resolver);
        Ok(Arc::new(config))
    }

    async fn kept(&self, host: &Host) -> Result<Kept, Error> {
        loop {
            match self.cache.get_value_or_guard_async(host).await {
                Ok(kept) if kept.holds((self.clock)()) => return Ok(kept),
                Ok(_) => {
                    let now = (self.clock)();
                    self.cache.remove_if(host, |kept| !kept.holds(now));
                }
                Err(place) => {
                    let kept = self.mint(host)?;
                    // Not kept only if it was removed while being made; it holds all the same.
                    let _ = place.insert(kept.clone());
                    return Ok(kept);
                }
            }
        }
    }

    /// How many leaves have been minted.
    pub fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    /// How many leaves are kept now.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    fn mint(&self, host: &Host) -> Result<Kept, Error> {
        let now = (self.clock)();
        let leaf = self.authority.mint_at(host, now)?;
        self.minted.fetch_add(1, Ordering::Relaxed);
        let mut config = self.template.clone();
        config.cert_resolver = Arc::new(Only(leaf.certified));
        config.ticketer = Arc::new(HostTickets::new(self.tickets.clone(), host));
        config.send_tls13_tickets = 1;
        let until = OffsetDateTime::from(leaf.not_after);
        Ok(Kept {
            config: Arc::new(config),
            from: leaf.not_before.into(),
            until: now + (until - now) / 2,
        })
    }
}

impl Kept {
    /// A clock that was set back may have left the leaf in the future.
    fn holds(&self, now: OffsetDateTime) -> bool {
        self.from <= now && now < self.until
    }
}

/// Settings under which no session can be resumed.
fn template(client: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(agent_side()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(client)
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Resumption needs no memory here: what a session was is in the ticket that the agent holds.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The key exchanges for the agent's leg, which ends on this machine: X25519 first, since the
/// hybrid costs time and hides nothing here; the hybrid last, for whoever offers only that.
fn agent_side() -> CryptoProvider {
    use provider::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider {
        kx_groups: vec![X25519, SECP256R1, SECP384R1, X25519MLKEM768],
        ..provider::default_provider()
    }
}

/// The one certificate of a host: whether the client's SNI names it is judged before TLS begins.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Tickets under one shared key that open only for the host they were made for. TLS itself binds
/// them to the SNI, but a client that goes to an address sends none.
#[derive(Debug)]
struct HostTickets {
    shared: Arc<dyn ProducesTickets>,
    host: [u8; 32],
}

impl HostTickets {
    fn new(shared: Arc<dyn ProducesTickets>, host: &Host) -> Self {
        let mut name = [0; 32];
        name.copy_from_slice(digest(&SHA256, host.to_string().as_bytes()).as_ref());
        Self { shared, host: name }
    }
}

impl ProducesTickets for HostTickets {
    fn enabled(&self) -> bool {
        self.shared.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.shared.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let bound = zeroize::Zeroizing::new([&self.host[..], plain].concat());
        self.shared.encrypt(&bound)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let bound = zeroize::Zeroizing::new(self.shared.decrypt(cipher)?);
        bound.strip_prefix(&self.host[..]).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

    use super::*;
    use crate::config::model::CaSource;
    use std::sync::atomic::AtomicI64;
    use time::Duration;

    fn leaves(capacity: usize, clock: fn() -> OffsetDateTime) -> Leaves {
        let authority = Authority::open(&CaSource::Memory).unwrap();
        Leaves::with_clock(Arc::new(authority), capacity, clock).unwrap()
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_hundred_who_ask_at_once_cause_one_mint_and_get_one_leaf() {
        // The clock is read in the middle of a mint: a slow one leaves time for a second to begin.
        let leaves = Arc::new(leaves(10, || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            OffsetDateTime::now_utc()
        }));
        let start = Arc::new(tokio::sync::Barrier::new(100));
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (leaves, start) = (leaves.clone(), start.clone());
            asked.spawn(async move {
                start.wait().await;
                leaves.server_config(&host("one.test")).await.unwrap()
            });
        }
        let configs = asked.join_all().await;
        assert_eq!(leaves.minted(), 1);
        assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
    }

    #[tokio::test]
    async fn no_more_leaves_are_kept_than_the_capacity_allows() {
        let leaves = leaves(16, OffsetDateTime::now_utc);
        for at in 0..200 {
            leaves.server_config(&host(&format!("h{at}.test"))).await.unwrap();
            assert!(leaves.len() <= 16, "{} are kept", leaves.len());
        }
        assert_eq!(leaves.minted(), 200);
        assert!(leaves.len() > 4, "almost nothing is kept");
    }

    #[tokio::test]
    async fn a_leaf_is_made_again_after_half_of_its_life_and_when_the_clock_went_back() {
        static DAYS: AtomicI64 = AtomicI64::new(0);
        let leaves = leaves(16, || {
            OffsetDateTime::now_utc() + Duration::days(DAYS.load(Ordering::Relaxed))
        });
        let mut expected = 1;
        for (days, fresh) in [(0, 0), (3, 0), (4, 1), (5, 0), (0, 1), (8, 1)] {
            DAYS.store(days, Ordering::Relaxed);
            leaves.server_config(&host("old.test")).await.unwrap();
            expected += fresh;
            assert_eq!(leaves.minted(), expected, "on day {days}");
        }
    }
}
