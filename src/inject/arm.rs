//! One permitted ask, made ready to be sent: credentials placed, and their traces noted.

use super::captured::{Captured, Held as Tokens, Token, swap};
use super::clocks::Clocks;
use super::place::{self, Swap};
use super::{Error, Misplaced, StandIns, body, collect, cookie, hmac, mtls, program, sigv4, strays, trailers};
use crate::base::ask::Scheme;
use crate::base::budget::Budget;
use crate::base::host::Target;
use crate::base::ids::{RuleId, SecretId};
use crate::base::secret::Secret;
use crate::base::template::{Part, Template};
use crate::config::Config;
use crate::config::hmac::Hmac;
use crate::config::model::{Action, Inject, Mtls, Place, Rule, SigV4, Strays};
use crate::net::{ClientCertificate, UnfitCertificate};
use crate::policy::Permitted;
use crate::scrub::Needles;
use crate::store::{Held, Store};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, UPGRADE};
use http_body::Body as _;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zeroize::Zeroizing;

/// Places the credentials of one configuration.
#[derive(Debug)]
pub struct Injector {
    store: Arc<Store>,
    stand_ins: Arc<StandIns>,
    captured: Arc<Captured>,
    /// The agents' names.
    agents: Box<[Arc<str>]>,
    needles: Box<[ArcSwapOption<Prepared>]>,
    /// The client certificates, by rule.
    certificates: Box<[mtls::Made]>,
    /// The programs that are asked, by rule.
    programs: Box<[Option<program::Asked>]>,
    /// Whether a rule gives anything that can be had anew, by rule.
    renewable: Box<[bool]>,
    /// Those of hosts that sign by another clock.
    clocks: Clocks,
    /// How long a body that is searched may take to come.
    body_time: Duration,
}

#[derive(Debug)]
struct Prepared {
    version: u64,
    needles: Arc<Needles>,
    /// Those of the value before.
    before: Option<Arc<Needles>>,
    /// The value as a bearer token, once it was one.
    bearer: OnceLock<HeaderValue>,
}

/// What was done to an ask.
#[derive(Debug, Default)]
pub struct Armed {
    /// Names of the credentials placed, for the record.
    pub credentials: Vec<Arc<str>>,
    /// What the upstream is shown in the TLS handshake.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Which of their values.
    pub given: Vec<(SecretId, u64)>,
    /// Tokens of the agent's logins that were placed.
    pub tokens: Vec<Arc<Token>>,
    /// What must not come back.
    pub needles: Vec<Arc<Needles>>,
    /// Stand-ins to swap in the text messages of a WebSocket.
    pub websocket: Vec<Message>,
    /// What looks for stand-ins in the other messages of a WebSocket.
    pub messages: Option<strays::Messages>,
    /// Whether it was signed with a time in it.
    pub timed: bool,
    /// Whom it was signed for by their clock, where they alone say what time that shows.
    signed_for: Option<Target>,
    /// The headers that only a program knew of.
    pub(super) filled: Vec<HeaderName>,
    /// A body that was collected, as it will be sent.
    pub(super) body: Option<Bytes>,
    /// What a body that is collected takes of.
    pub(super) memory: Budget,
}

/// A stand-in to swap in text messages.
#[derive(Debug, Clone)]
pub struct Message {
    /// What the agent holds.
    pub stand_in: Arc<str>,
    /// What goes out.
    pub held: Arc<Held>,
}

impl Armed {
    /// Notes that a token of a login goes out. Its traces are those of the login.
    pub(super) fn gave(&mut self, token: &Arc<Token>) {
        let name = token.name();
        if !self.credentials.contains(&name) {
            self.credentials.push(name);
        }
        self.tokens.push(Arc::clone(token));
    }
}

impl Injector {
    /// Takes secrets from `store` and the tokens of logins from `captured`; agents hold `stand_ins`.
    pub fn new(config: &Config, store: Arc<Store>, stand_ins: Arc<StandIns>, captured: Arc<Captured>) -> Self {
        let needles = std::iter::repeat_with(ArcSwapOption::empty)
            .take(config.secrets.len())
            .collect();
        let programs = config.rules.iter().map(|rule| asked(rule, &store)).collect();
        let injector = Self {
            programs,
            store,
            stand_ins,
            captured,
            agents: config.agents.iter().map(|agent| Arc::clone(&agent.name)).collect(),
            needles,
            certificates: config.rules.iter().map(|_| mtls::Made::default()).collect(),
            renewable: config.rules.iter().map(|rule| is_renewable(config, rule)).collect(),
            clocks: Clocks::default(),
            body_time: config.limits.response_time,
        };
        injector.prepare(config);
        injector
    }

    /// Prepares the search for every value that a rule gives and that is at hand: so the first request need not wait for
    /// it, and who starts Keyferry learns at once of a value that cannot be searched for.
    fn prepare(&self, config: &Config) {
        for id in injections(config).flat_map(|inject| inject.iter().flat_map(Inject::secrets)) {
            if let Some(held) = self.store.known(id) {
                self.prepared(id, &held);
            }
        }
        for (name, why) in unfit(config, &self.store) {
            tracing::warn!("the client certificate `{name}` cannot be shown: {why}");
        }
    }

    /// Whether a request of this rule that is refused may be sent again with another value.
    pub fn may_renew(&self, rule: RuleId) -> bool {
        self.renewable.get(rule.index()).copied().unwrap_or_default()
    }

    /// Learns from what a host answers to a signature what time it is there.
    pub fn heed<B>(&self, armed: &Armed, answer: &http::Response<B>) {
        if let Some(target) = &armed.signed_for {
            self.clocks.heed(target, answer);
        }
    }

    /// Has what a host did not take fetched anew. True when it may be given something else.
    pub async fn refused(&self, armed: &Armed) -> bool {
        let mut another = false;
        for (id, version) in &armed.given {
            another |= self.store.refused(*id, *version).await;
        }
        another
    }

    /// Places every credential of the rule that permitted this ask. A body that must be collected for that takes of
    /// `memory`.
    ///
    /// # Errors
    /// When a credential cannot be had or cannot stand where the rule puts it, when it would go out
    /// in the clear, or when a stand-in stands where it is not swapped. Then nothing may be sent.
    pub async fn arm(&self, permitted: &mut Permitted, memory: &Budget) -> Result<Armed, Error> {
        let inject = permitted.inject();
        if permitted.scheme() == Scheme::Http && !inject.is_empty() && !permitted.plaintext() {
            return Err(Error::Plaintext(Arc::clone(&permitted.rule().name)));
        }
        let mut armed = Armed {
            memory: memory.clone(),
            ..Armed::default()
        };
        let tokens = match permitted.logins().is_empty() {
            true => self.captured.now(),
            false => self.captured.shared().await,
        };
        for turn in Turn::ALL {
            for one in inject.iter().filter(|one| Turn::of(one) == turn) {
                self.place(permitted, one, &tokens, &mut armed).await?;
            }
        }
        let filled = std::mem::take(&mut armed.filled);
        let names = inject.iter().flat_map(injected).chain(filled);
        permitted.map_body(|body| trailers::without(body, names));
        self.watch(&permitted.watched(), &mut armed);
        let programs = permitted.asking();
        let programs = programs
            .iter()
            .filter_map(|rule| self.programs.get(rule.index())?.as_ref());
        armed.needles.extend(programs.flat_map(program::Asked::traces));
        let of_logins = permitted.logins();
        armed
            .needles
            .extend(of_logins.iter().filter_map(|login| tokens.needles(login)));
        self.block(permitted, &inject, &tokens, &mut armed)?;
        Ok(armed)
    }

    /// Refuses stand-ins where none is swapped: what is left of them by now.
    fn block(
        &self,
        permitted: &mut Permitted,
        inject: &[Inject],
        tokens: &Tokens,
        armed: &mut Armed,
    ) -> Result<(), Error> {
        let of_logins = tokens.stand_ins();
        if let Some((id, place)) = of_logins.find_in_head(permitted.headers(), permitted.path_and_query()) {
            return Err(tokens.misplaced(id, place));
        }
        if let Some((id, place)) = self
            .stand_ins
            .find_in_head(permitted.headers(), permitted.path_and_query())
        {
            return Err(self.misplaced(id, place));
        }
        if permitted.strays() == Strays::Block {
            match armed.body.take() {
                Some(body) => {
                    if let Some(id) = self.stand_ins.find(&body) {
                        return Err(self.misplaced(id, "the request body".to_owned()));
                    }
                    if let Some(id) = of_logins.find(&body) {
                        return Err(tokens.misplaced(id, "the request body".to_owned()));
                    }
                }
                None => {
                    permitted.map_body(|body| strays::body(strays::body(body, &self.stand_ins), of_logins));
                }
            }
            if self.stand_ins.longest() + of_logins.longest() > 0 && permitted.headers().contains_key(UPGRADE) {
                armed.messages = Some(self.messages(inject, of_logins));
            }
        }
        Ok(())
    }

    /// What is long and seldom is boxed, as every request has room for the longest of these.
    async fn place(
        &self,
        permitted: &mut Permitted,
        one: &Inject,
        tokens: &Tokens,
        armed: &mut Armed,
    ) -> Result<(), Error> {
        match one {
            Inject::Bearer(id) => {
                let held = self.held(*id, armed).await?;
                let value = self.prepared(*id, &held).bearer(&held, &self.stand_ins.name(*id))?;
                place::header(permitted.headers_mut(), &AUTHORIZATION, value);
            }
            Inject::Basic { user, password } => {
                let held = self.held(*password, armed).await?;
                let value = place::basic(user, &held.secret, &self.stand_ins.name(*password))?;
                place::header(permitted.headers_mut(), &AUTHORIZATION, value);
            }
            Inject::Header { name, value } => {
                let (bytes, secret) = self.fill(value, armed).await?;
                place::header(permitted.headers_mut(), name, place::sensitive(&bytes, &secret)?);
            }
            Inject::Query { name, value } => {
                let (bytes, secret) = self.fill(value, armed).await?;
                let new = place::query(permitted.path_and_query(), name, &bytes).ok_or(Error::Unfit(secret))?;
                permitted.set_path_and_query(new);
            }
            Inject::Cookie { name, value } => {
                let (bytes, secret) = self.fill(value, armed).await?;
                cookie::put(permitted.headers_mut(), name, &bytes, &secret)?;
            }
            Inject::Program(_) => Box::pin(self.ask(permitted, armed)).await?,
            Inject::Hmac(spec) => Box::pin(self.key(permitted, spec, armed)).await?,
            Inject::SigV4(spec) => Box::pin(self.sign(permitted, spec, armed)).await?,
            Inject::Mtls(spec) => Box::pin(self.certify(permitted, spec, armed)).await?,
            Inject::Login { login, places } => {
                let login = swap::Login {
                    name: login,
                    agent: self.agents.get(permitted.agent().index()).map_or("", |name| name),
                    places,
                };
                Box::pin(tokens.swap(permitted, login, armed, self.body_time)).await?;
            }
            Inject::Placeholder { secret, places } => {
                let Some(stand_in) = self.stand_ins.of(*secret).cloned() else {
                    return Ok(());
                };
                for place in places {
                    self.swap(permitted, *secret, &stand_in, place, armed).await?;
                }
            }
        }
        Ok(())
    }

    /// Has the upstream shown a certificate. In the clear there is no handshake to show it in.
    async fn certify(&self, permitted: &mut Permitted, spec: &Mtls, armed: &mut Armed) -> Result<(), Error> {
        if permitted.scheme() == Scheme::Http {
            return Err(Error::Plaintext(Arc::clone(&permitted.rule().name)));
        }
        let name = self.stand_ins.name(spec.certificate);
        let (chain, key) = (self.fetch(spec.certificate).await?, self.fetch(spec.private_key).await?);
        let unfit = || Error::Unfit(Arc::clone(&name));
        let made = self.certificates.get(permitted.rule_id().index()).ok_or_else(unfit)?;
        armed.certificate = Some(made.of((&chain, &key), &name)?);
        armed.credentials.push(name);
        Ok(())
    }

    /// Fills what a program answers with.
    async fn ask(&self, permitted: &mut Permitted, armed: &mut Armed) -> Result<(), Error> {
        let asked = self.programs.get(permitted.rule_id().index()).and_then(Option::as_ref);
        let asked = asked.ok_or_else(|| Error::Unfit(Arc::clone(&permitted.rule().name)))?;
        let agent = self.agents.get(permitted.agent().index()).map_or("?", |name| name);
        armed.filled = asked.fill(permitted, agent).await?;
        armed.credentials.push(Arc::clone(asked.name()));
        Ok(())
    }

    /// Signs the request by a keyed hash.
    async fn key(&self, permitted: &mut Permitted, spec: &Hmac, armed: &mut Armed) -> Result<(), Error> {
        let mut secrets = HashMap::new();
        for id in spec.secrets() {
            secrets.insert(id, (self.held(id, armed).await?, self.stand_ins.name(id)));
        }
        let body = match &armed.body {
            _ if !spec.needs_body() => Bytes::new(),
            Some(body) => body.clone(),
            None if permitted.body().is_end_stream() => Bytes::new(),
            None => {
                let body = collect::signed(permitted, &armed.memory, self.body_time).await?;
                armed.body = Some(body.clone());
                body
            }
        };
        armed.timed = true;
        let signature = hmac::sign(permitted, spec, &hmac::Given { secrets, body })?;
        armed.needles.push(Arc::new(Needles::new([(&signature, None)])));
        Ok(())
    }

    /// Signs the request as AWS has it.
    async fn sign(&self, permitted: &mut Permitted, spec: &SigV4, armed: &mut Armed) -> Result<(), Error> {
        let mut keys = self.keys(spec, armed).await?;
        if !self.belong_together(spec, &keys) {
            keys = self.keys(spec, armed).await?;
        }
        armed.timed = true;
        let now = self.clocks.now(permitted.target());
        // In the clear anybody on the way could say what time it is.
        armed.signed_for = (permitted.scheme() == Scheme::Https).then(|| permitted.target().clone());
        let signature = sigv4::sign(permitted, spec, (&keys, now), armed, self.body_time).await?;
        if let Ok(signature) = Secret::new(signature.into_bytes()) {
            armed.needles.push(Arc::new(Needles::new([(&signature, None)])));
        }
        Ok(())
    }

    async fn keys(&self, spec: &SigV4, armed: &mut Armed) -> Result<sigv4::Keys, Error> {
        let named =
            async |id, armed: &mut Armed| Ok::<_, Error>((self.held(id, armed).await?, self.stand_ins.name(id)));
        Ok(sigv4::Keys {
            id: named(spec.access_key_id, armed).await?,
            secret: self.held(spec.secret_access_key, armed).await?,
            token: match spec.session_token {
                Some(id) => Some(named(id, armed).await?),
                None => None,
            },
        })
    }

    /// Whether none of them has changed since: those of a session are renewed as one, and that may be in between.
    fn belong_together(&self, spec: &SigV4, keys: &sigv4::Keys) -> bool {
        let token = spec
            .session_token
            .zip(keys.token.as_ref())
            .map(|(id, (held, _))| (id, held));
        let parts = [(spec.access_key_id, &keys.id.0), (spec.secret_access_key, &keys.secret)];
        let is_now = |(id, held): (SecretId, &Arc<Held>)| {
            let now = self.store.current(id);
            now.is_some_and(|now| now.version == held.version)
        };
        parts.into_iter().chain(token).all(is_now)
    }

    /// The template with its secrets filled in, and the name of the last of them.
    async fn fill(&self, template: &Template, armed: &mut Armed) -> Result<(Zeroizing<Vec<u8>>, Arc<str>), Error> {
        let mut bytes = Zeroizing::new(Vec::new());
        let mut name: Arc<str> = "".into();
        for part in &template.0 {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Part::Secret(id) => {
                    let held = self.held(*id, armed).await?;
                    held.secret.expose(|secret| bytes.extend_from_slice(secret));
                    name = self.stand_ins.name(*id);
                }
            }
        }
        Ok((bytes, name))
    }

    /// Swaps one stand-in in one place, if it is there.
    async fn swap(
        &self,
        permitted: &mut Permitted,
        id: SecretId,
        stand_in: &Arc<str>,
        place: &Place,
        armed: &mut Armed,
    ) -> Result<(), Error> {
        let swapped = match place {
            Place::Header(name) => {
                if !permitted.headers().contains_key(name) {
                    return Ok(());
                }
                let held = self.fetch(id).await?;
                place::swap_header(permitted.headers_mut(), name, stand_in, &held.secret)
            }
            Place::Query(name) => self.swap_uri(permitted, id, Some(name), stand_in).await?,
            Place::Path => self.swap_uri(permitted, id, None, stand_in).await?,
            Place::Body(pointer) => return self.swap_body(permitted, id, stand_in, pointer, armed).await,
            Place::WebSocket => {
                if permitted.headers().contains_key(UPGRADE) {
                    let held = self.held(id, armed).await?;
                    armed.websocket.push(Message {
                        stand_in: Arc::clone(stand_in),
                        held,
                    });
                }
                return Ok(());
            }
        };
        match swapped {
            Swap::Absent => Ok(()),
            Swap::Done(()) => self.held(id, armed).await.map(drop),
            Swap::Unfit => Err(Error::Unfit(self.stand_ins.name(id))),
            Swap::Repeated => {
                let place = format!("{} more than once", describe(place));
                Err(self.misplaced(id, place))
            }
        }
    }

    async fn swap_uri(
        &self,
        permitted: &mut Permitted,
        id: SecretId,
        name: Option<&str>,
        stand_in: &str,
    ) -> Result<Swap<()>, Error> {
        if !permitted.path_and_query().contains(stand_in) {
            return Ok(Swap::Absent);
        }
        let held = self.fetch(id).await?;
        Ok(
            match place::swap_uri(permitted.path_and_query(), name, stand_in, &held.secret) {
                Swap::Done(new) => {
                    permitted.set_path_and_query(new);
                    Swap::Done(())
                }
                Swap::Absent => Swap::Absent,
                Swap::Repeated => Swap::Repeated,
                Swap::Unfit => Swap::Unfit,
            },
        )
    }

    async fn swap_body(
        &self,
        permitted: &mut Permitted,
        id: SecretId,
        stand_in: &str,
        pointer: &str,
        armed: &mut Armed,
    ) -> Result<(), Error> {
        let Some(kind) = body_kind(permitted)? else {
            return Ok(());
        };
        let held = self.fetch(id).await?;
        let (bytes, taken) = collect::whole(permitted, &armed.memory, self.body_time, collect::SEARCHED).await?;
        let swapped = body::substitute(&bytes, kind, pointer, stand_in, &held.secret)?;
        if swapped.is_some() {
            self.held(id, armed).await?;
        }
        armed.body = Some(collect::put(permitted, swapped.map_or(bytes, Into::into), taken));
        Ok(())
    }

    /// What looks through the messages of a WebSocket, but for the stand-ins that are swapped in them.
    fn messages(&self, inject: &[Inject], of_logins: &Arc<StandIns>) -> strays::Messages {
        let swapped = inject.iter().filter_map(|one| match one {
            Inject::Placeholder { secret, places } if places.contains(&Place::WebSocket) => Some(*secret),
            _ => None,
        });
        strays::Messages::new(&self.stand_ins, swapped.collect(), of_logins)
    }

    fn misplaced(&self, id: SecretId, place: String) -> Error {
        let name = self.stand_ins.name(id);
        Misplaced { name, place }.into()
    }

    /// Fetches a value and notes that it goes out.
    async fn held(&self, id: SecretId, armed: &mut Armed) -> Result<Arc<Held>, Error> {
        let held = self.fetch(id).await?;
        let name = self.stand_ins.name(id);
        if !armed.credentials.contains(&name) {
            armed.credentials.push(name);
            armed.given.push((id, held.version));
            self.prepared(id, &held).add_to(armed);
        }
        Ok(held)
    }

    /// Notes what else the host may have been given, by this rule or another: it may come back in any reply.
    fn watch(&self, watched: &[SecretId], armed: &mut Armed) {
        for id in watched {
            if armed.credentials.contains(&self.stand_ins.name(*id)) {
                continue;
            }
            if let Some(held) = self.store.known(*id) {
                self.prepared(*id, &held).add_to(armed);
            }
        }
    }

    async fn fetch(&self, id: SecretId) -> Result<Arc<Held>, Error> {
        if let Some(held) = self.store.current(id) {
            return Ok(held);
        }
        let unavailable = |source| Error::Unavailable {
            name: self.stand_ins.name(id),
            source,
        };
        self.store.get(id).await.map_err(unavailable)
    }

    /// What to search replies for, prepared once for each version of a value.
    fn prepared(&self, id: SecretId, held: &Held) -> Arc<Prepared> {
        let slot = self.needles.get(id.index());
        let last = slot.and_then(|s| s.load_full());
        if let Some(prepared) = last.as_ref().filter(|p| p.version == held.version) {
            return Arc::clone(prepared);
        }
        let stand_in = self.stand_ins.of(id).map(|s| &**s);
        let needles = |held: &Held| Arc::new(Needles::new([(&held.secret, stand_in)]));
        let before = self.store.before(id).map(|held| {
            let known = last.as_ref().filter(|p| p.version == held.version);
            known.map_or_else(|| needles(&held), |p| Arc::clone(&p.needles))
        });
        let needles = needles(held);
        if needles.too_short() > 0 {
            let name = self.stand_ins.name(id);
            tracing::warn!("credential `{name}` is too short to be looked for in replies: an echo of it would pass");
        }
        let prepared = Arc::new(Prepared {
            version: held.version,
            needles,
            before,
            bearer: OnceLock::new(),
        });
        if let Some(slot) = slot {
            slot.store(Some(Arc::clone(&prepared)));
        }
        prepared
    }
}

impl Prepared {
    /// The value as it is placed by most rules, made once.
    fn bearer(&self, held: &Held, name: &Arc<str>) -> Result<HeaderValue, Error> {
        if let Some(made) = self.bearer.get() {
            return Ok(made.clone());
        }
        let made = place::bearer(&held.secret, name)?;
        Ok(self.bearer.get_or_init(|| made).clone())
    }

    fn add_to(&self, armed: &mut Armed) {
        armed.needles.push(Arc::clone(&self.needles));
        armed.needles.extend(self.before.clone());
    }
}

/// When one is placed: a program sees nothing that others placed; a signature is made of what all others have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Program,
    Other,
    Signature,
}

impl Turn {
    const ALL: [Self; 3] = [Self::Program, Self::Other, Self::Signature];

    fn of(one: &Inject) -> Self {
        match one {
            Inject::Program(_) => Self::Program,
            Inject::SigV4(_) | Inject::Hmac(_) => Self::Signature,
            _ => Self::Other,
        }
    }
}

/// The program of a rule.
fn asked(rule: &Rule, store: &Store) -> Option<program::Asked> {
    let Action::Intercept { inject, .. } = &rule.action else {
        return None;
    };
    inject.iter().find_map(|one| match one {
        Inject::Program(spec) => {
            let name = format!("{}/exec", rule.name);
            Some(program::Asked::new(store.program(name.into(), spec)))
        }
        _ => None,
    })
}

fn injections(config: &Config) -> impl Iterator<Item = &[Inject]> {
    config.rules.iter().filter_map(|rule| match &rule.action {
        Action::Intercept { inject, .. } => Some(inject.as_slice()),
        Action::Deny { .. } | Action::Tunnel => None,
    })
}

/// The client certificates that are at hand and cannot be shown, by name, each once.
pub fn unfit(config: &Config, store: &Store) -> Vec<(Arc<str>, UnfitCertificate)> {
    let mut told: Vec<(Arc<str>, UnfitCertificate)> = Vec::new();
    for spec in injections(config).filter_map(mtls::shown) {
        if let Some(name) = config.secret(spec.certificate).map(|spec| Arc::clone(&spec.name))
            && let Some(why) = mtls::fault(spec, store)
            && !told.iter().any(|(other, _)| *other == name)
        {
            told.push((name, why));
        }
    }
    told
}

fn is_renewable(config: &Config, rule: &Rule) -> bool {
    let Action::Intercept { inject, .. } = &rule.action else {
        return false;
    };
    let fetched = |id| config.secret(id).is_some_and(|spec| spec.source.is_fetched());
    inject.iter().flat_map(Inject::secrets).any(fetched)
}

/// The headers that an injection is alone to fill.
fn injected(one: &Inject) -> Vec<HeaderName> {
    match one {
        Inject::Bearer(_) | Inject::Basic { .. } => vec![AUTHORIZATION],
        Inject::Header { name, .. } => vec![name.clone()],
        Inject::Cookie { .. } => vec![COOKIE],
        Inject::Hmac(spec) => spec.headers.iter().map(|(name, _)| name.clone()).collect(),
        Inject::SigV4(_) => sigv4::FILLED.to_vec(),
        Inject::Query { .. }
        | Inject::Placeholder { .. }
        | Inject::Mtls(_)
        | Inject::Program(_)
        | Inject::Login { .. } => Vec::new(),
    }
}

/// What kind of body can be searched; `None` for any other.
pub(super) fn body_kind(permitted: &Permitted) -> Result<Option<body::BodyKind>, Error> {
    let headers = permitted.headers();
    let Some(content_type) = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return Ok(None);
    };
    let Some(kind) = body::BodyKind::of(content_type) else {
        return Ok(None);
    };
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(body::Error::Compressed.into());
    }
    Ok(Some(kind))
}

pub(super) fn describe(place: &Place) -> String {
    match place {
        Place::Header(name) => format!("header `{name}`"),
        Place::Query(name) => format!("query parameter `{name}`"),
        Place::Path => "the path".to_owned(),
        Place::Body(pointer) => format!("the body at `{pointer}`"),
        Place::WebSocket => "a WebSocket message".to_owned(),
    }
}
