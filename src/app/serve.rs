//! The running program: sockets bound, parts built, served until told to stop, drained.

use super::assemble::{self, Surroundings};
use super::descriptors;
use super::own_tls::OwnTls;
use super::sockets::Sockets;
use crate::admin::Admin;
use crate::audit::{Log, Way};
use crate::base::host::Host;
use crate::base::peer::Peer;
use crate::base::secret::IsToken;
use crate::base::tasks::Tasks;
use crate::ca::authority::Authority;
use crate::ca::leaves::Leaves;
use crate::config::Config;
use crate::config::model::{Bind, Limits, Listen, Speak};
use crate::inject::Captured;
use crate::listen::bound::Local;
use crate::listen::{self, Accepted, Bound, Datagrams, Inherited, owner, serve};
use crate::metrics::Metrics;
use crate::net::guard::is_here;
use crate::proxy::connection::{Caller, Own};
use crate::proxy::lobby::{Guest, Lobby};
use crate::proxy::share::Shares;
use crate::proxy::transparent::{self, Original};
use crate::proxy::{Proxy, entry, gateway, resolver, socks, told};
use crate::store::{EncryptedFile, KeySource, Store};
use anyhow::Result;
use ipnet::IpNet;
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What the command line adds to a configuration.
#[derive(Debug)]
pub struct Options {
    /// Keyferry's own directory.
    pub data_dir: PathBuf,
    /// Where made-up stand-ins come from.
    pub seed: Vec<u8>,
    /// The agent whose own the listeners are; `run` knows whom it started.
    pub own: Option<Started>,
    /// Sockets that were there before.
    pub inherited: Inherited,
}

/// Whom `run` started.
#[derive(Debug, Clone)]
pub struct Started {
    /// The agent's name.
    pub agent: Arc<str>,
    /// What it may show.
    pub token: IsToken,
    /// Whose process it is, beside our own user's: inside some walls it is another's.
    pub uid: Option<u32>,
}

/// Everything bound and built, serving once [`start`](Self::start) is called.
#[derive(Debug)]
pub struct App {
    /// The data path.
    pub proxy: Arc<Proxy>,
    /// The CA.
    pub authority: Arc<Authority>,
    around: Surroundings,
    store: Mutex<Store>,
    generation: AtomicU64,
    listeners: Mutex<Vec<(Listen, Arc<Bound>)>>,
    /// The sockets of resolvers, each with what it answers.
    resolvers: Mutex<Vec<(Arc<[IpAddr]>, Datagrams)>>,
    admin_socket: Mutex<Option<Arc<Bound>>>,
    /// All that listens, for as long as it does.
    pub(super) sockets: Vec<Weak<Bound>>,
    /// What the process before listened on and this one does not.
    pub(super) left: Mutex<Vec<Bound>>,
    admin: Option<Admin>,
    locals: Vec<(Local, &'static str)>,
    own: Option<Started>,
    limits: Limits,
    /// Connections from agents that there is room for.
    connections: usize,
}

/// Records get this long to reach the disk at the end.
const FLUSH_TIME: Duration = Duration::from_secs(5);
/// Connections to the operator's listener at one time.
const ADMIN_CONNECTIONS: usize = 64;

impl App {
    /// Binds every socket, opens CA, secrets and log, and builds the data path; starts no task that
    /// serves. So a taken port, a missing secret or an unreadable CA fails the start.
    ///
    /// # Errors
    /// Whatever is wrong, in words for the operator.
    pub async fn build(config: Config, options: Options) -> Result<Self> {
        let config = Arc::new(config);
        let sockets = Sockets::bind(&config, options.inherited)?;
        let authority = Arc::new(Authority::open(&config.ca)?);
        let log = Log::open(&config.audit)?;
        let metrics = Arc::new(Metrics::new()?);
        let (tasks, background) = (Tasks::new(), Tasks::new());
        let spoken = |(listen, bound): &(Listen, Arc<Bound>)| (bound.local().clone(), listen.speak.as_str());
        let file = EncryptedFile::new(&options.data_dir, KeySource::from_env());
        let around = Surroundings {
            captured: Arc::new(Captured::new(file)),
            data_dir: options.data_dir,
            seed: options.seed,
            own: sockets.all().filter_map(|bound| tcp(bound.local())).collect(),
            background,
            metrics: Arc::clone(&metrics),
            shares: Shares::default(),
        };
        let (live, store) = assemble::live(Arc::clone(&config), &around, 1, None).await?;
        let connections = descriptors::connections(config.limits.connections);
        let leaves = Arc::new(Leaves::new(Arc::clone(&authority), config.limits.leaves)?);
        let admin = sockets.admin.as_ref().map(|socket| {
            let hosts = tcp(socket.local())
                .map(|address| Host::from(address.ip()))
                .into_iter()
                .collect();
            Admin::new(Arc::clone(&metrics), log.clone(), hosts, tasks.clone())
        });
        let app = Self {
            proxy: Arc::new(Proxy::new(live, leaves, log, metrics, tasks, Lobby::new(connections))),
            connections,
            authority,
            around,
            sockets: sockets.all().map(Arc::downgrade).collect(),
            locals: sockets.agents.iter().map(spoken).collect(),
            left: Mutex::new(sockets.left),
            store: Mutex::new(store),
            generation: AtomicU64::new(1),
            listeners: Mutex::new(sockets.agents),
            resolvers: Mutex::new(sockets.resolvers),
            admin_socket: Mutex::new(sockets.admin),
            admin,
            own: options.own,
            limits: config.limits.clone(),
        };
        app.tell_admin(&config);
        Ok(app)
    }

    /// Where agents connect, with real ports, and what is spoken there.
    pub fn locals(&self) -> &[(Local, &'static str)] {
        &self.locals
    }

    /// Where the operator connects.
    pub fn admin_local(&self) -> Option<Local> {
        self.admin_socket.lock().as_ref().map(|bound| bound.local().clone())
    }

    /// Begins to accept.
    ///
    /// # Errors
    /// When a TLS listener has no certificate to show.
    pub async fn start(&self) -> Result<()> {
        let slots = Arc::new(Semaphore::new(self.connections));
        let stall_time = self.limits.stall_time;
        let listeners = std::mem::take(&mut *self.listeners.lock());
        for (listen, bound) in listeners {
            let tls = listen
                .tls
                .then(|| OwnTls::new(bound.local(), &self.authority))
                .transpose()?;
            let door = Door {
                proxy: Arc::clone(&self.proxy),
                speak: listen.speak.clone(),
                balancers: listen.proxy_protocol.clone().into(),
                tls,
                own: self.own.clone(),
                local: bound.local().clone(),
                time: self.limits.head_time,
            };
            let each = move |accepted| door.clone().enter(accepted);
            let tasks = self.proxy.tasks.clone();
            self.proxy
                .tasks
                .spawn(serve(bound, Arc::clone(&slots), tasks, stall_time, each));
        }
        for (answer, datagrams) in std::mem::take(&mut *self.resolvers.lock()) {
            let proxy = Arc::clone(&self.proxy);
            let each = move |question: Vec<u8>, peer| {
                let (proxy, answer) = (Arc::clone(&proxy), Arc::clone(&answer));
                async move { resolver::answer(&proxy, Peer::Tcp(peer), &answer, &question).await }
            };
            let tasks = self.proxy.tasks.clone();
            self.proxy.tasks.spawn(datagrams.serve(tasks, each));
        }
        let admin_socket = self.admin_socket.lock().take();
        if let (Some(bound), Some(admin)) = (admin_socket, self.admin.clone()) {
            let each = move |accepted: Accepted| {
                let admin = admin.clone();
                async move { admin.serve_connection(accepted.wire).await }
            };
            let slots = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
            self.proxy
                .tasks
                .spawn(serve(bound, slots, self.proxy.tasks.clone(), stall_time, each));
        }
        Ok(())
    }

    /// Puts another configuration in force, or leaves the old one whole. Listeners, CA, log and
    /// global limits are those of the start; what of them changed is returned, for a restart.
    ///
    /// # Errors
    /// When the new one cannot be built.
    pub async fn reload(&self, config: Config) -> Result<Vec<&'static str>> {
        let previous = self.store.lock().clone();
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let old = self.proxy.live();
        let wants_restart = restarts(&old.config, &config);
        let config = Arc::new(config);
        let built = assemble::live(Arc::clone(&config), &self.around, generation, Some(previous)).await;
        let (live, store) = match built {
            Ok(built) => built,
            Err(error) => {
                self.proxy.metrics.reload_failures.inc();
                return Err(error);
            }
        };
        *self.store.lock() = store;
        self.proxy.replace(live);
        self.proxy.metrics.reloads.inc();
        self.tell_admin(&config);
        Ok(wants_restart)
    }

    /// Stops accepting, lets exchanges finish up to the drain time, ends what is left, and writes
    /// the last records. Returns how many connections had to be ended.
    pub async fn finish(&self) -> usize {
        let cut = self.proxy.tasks.finish(self.limits.drain_time).await;
        self.around.background.finish(Duration::ZERO).await;
        let log = self.proxy.log.clone();
        let lost = tokio::task::spawn_blocking(move || log.finish(FLUSH_TIME))
            .await
            .unwrap_or(0);
        if lost > 0 {
            tracing::warn!("{lost} audit records could not be written");
        }
        cut
    }

    fn tell_admin(&self, config: &Config) {
        let Some(admin) = &self.admin else { return };
        let token = config.admin.as_ref().and_then(|admin| admin.token);
        let token = token.map(|id| assemble::token_test(&self.store.lock(), id));
        let listen = self.locals.iter().map(|(local, _)| local.to_string()).collect();
        admin.update(assemble::status(config, listen), token);
    }
}

/// The way in of one listener.
#[derive(Clone)]
struct Door {
    proxy: Arc<Proxy>,
    speak: Speak,
    balancers: Arc<[IpNet]>,
    tls: Option<OwnTls>,
    own: Option<Started>,
    local: Local,
    time: Duration,
}

impl Door {
    async fn enter(self, accepted: Accepted) {
        let guest = self.proxy.lobby.enter();
        guest.clone().stay(Box::pin(self.serve(accepted, guest))).await;
    }

    async fn serve(self, mut accepted: Accepted, guest: Guest) {
        let own = self.own.as_ref().map(|own| self.admit(accepted.peer, own));
        let told = told::peer(&self.proxy, &mut accepted.wire, accepted.peer, &self.balancers);
        let Some(peer) = told.await else { return };
        let mut caller = Caller {
            peer,
            way: Way::Proxy,
            original: None,
            shown: None,
            offered: None,
            own,
            guest,
        };
        let asks = self.proxy.live().identity.asks_for_certificates();
        let wire = match &self.tls {
            None => accepted.wire,
            Some(tls) => match tokio::time::timeout(self.time, Box::pin(tls.handshake(accepted.wire, asks))).await {
                Ok(Ok((wire, shown))) => {
                    caller.shown = shown.map(Arc::new);
                    wire
                }
                Ok(Err(error)) => return tracing::debug!("TLS from {}: {error}", caller.peer),
                Err(_) => return,
            },
        };
        match self.speak {
            Speak::Proxy => entry::serve(self.proxy, wire, caller).await,
            // Boxed, so that a connection of the most common kind does not take the room of all.
            Speak::Socks => Box::pin(socks::serve(self.proxy, wire, caller)).await,
            Speak::Transparent { default, .. } => {
                let original = original(caller.peer, accepted.original);
                Box::pin(transparent::serve(self.proxy, wire, caller, original, default)).await;
            }
            Speak::Gateway { names } => {
                let secure = self.tls.is_some();
                Box::pin(gateway::serve(
                    self.proxy,
                    wire,
                    caller,
                    gateway::Door { names, secure },
                ))
                .await;
            }
            Speak::Dns { answer } => Box::pin(resolver::serve(self.proxy, wire, caller, answer)).await,
        }
    }

    /// A command's own listener is for its user alone: another user of this machine must show the token.
    fn admit(&self, peer: Peer, started: &Started) -> Own {
        let owner = match (peer, &self.local) {
            (Peer::Unix { uid }, _) => Some(uid),
            (Peer::Tcp(peer), Local::Tcp(local)) => owner::uid(peer, *local),
            (Peer::Tcp(_), Local::Unix(_) | Local::Vsock(_)) | (Peer::Vsock { .. }, _) => None,
        };
        let ours = rustix::process::geteuid().as_raw();
        let is_its = |uid| uid == ours || started.uid == Some(uid);
        Own {
            agent: Arc::clone(&started.agent),
            admitted: owner.is_some_and(is_its),
            token: started.token.clone(),
        }
    }
}

/// Where a redirected connection was going, unless Keyferry itself made it.
fn original(peer: Peer, redirected: Option<listen::bound::Original>) -> Original {
    match (peer, redirected) {
        (_, None) => Original::Unknown,
        (Peer::Tcp(peer), Some(to)) if to.may_be_from_here && made_here(peer, to.address) => Original::Own,
        (_, Some(to)) => Original::To(to.address),
    }
}

/// Whether this very process made the connection; looking through all sockets is for those that come from this machine.
fn made_here(peer: SocketAddr, to: SocketAddr) -> bool {
    is_here(peer.ip().to_canonical()) && owner::is_own(peer, to)
}

fn tcp(local: &Local) -> Option<SocketAddr> {
    match local {
        Local::Tcp(address) => Some(*address),
        Local::Unix(_) | Local::Vsock(_) => None,
    }
}

/// Sections that a reload cannot change, of those that differ.
fn restarts(old: &Config, new: &Config) -> Vec<&'static str> {
    let differ = [
        ("listen", old.listen != new.listen),
        (
            "admin",
            old.admin.as_ref().map(|a| &a.bind) != new.admin.as_ref().map(|a| &a.bind),
        ),
        ("ca", old.ca != new.ca),
        ("audit", old.audit != new.audit),
        ("limits", old.limits != new.limits),
    ];
    differ
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name)
        .collect()
}

/// An ephemeral loopback listener, for `run`.
pub fn loopback(speak: Speak) -> Listen {
    let bind = Bind::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    Listen {
        bind,
        speak,
        tls: false,
        mode: None,
        proxy_protocol: Vec::new(),
    }
}
