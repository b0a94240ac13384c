//! One request, from its head to its record: judged, armed, sent, scrubbed.

use super::connection::Conn;
use super::counted::{Capped, Counted};
use super::entry::{Understands, protocol, ready, refuse};
use super::fault::Fault;
use super::halfclose::Whole;
use super::live::{Live, Proxy};
use super::recorded::{Entry, Recorded};
use super::splice::Splice;
use super::{captured, hygiene, upgrade};
use crate::audit::{MaskedPath, Outcome};
use crate::base::ask::{Ask, is_only_chunked};
use crate::base::body::Body;
use crate::base::budget::Budget;
use crate::base::clock;
use crate::base::ids::AgentId;
use crate::config::model::{Rule, RuleLimits};
use crate::inject::Armed;
use crate::net::{Answer, ClientCertificate, Lease, MOST_HEADERS};
use crate::policy::Permitted;
use crate::scrub::{self, Asked};
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// A request that may be made, and what is known of it by then.
struct Judged {
    live: Arc<Live>,
    agent: AgentId,
    permitted: Permitted,
    rule: Arc<Rule>,
    memory: Budget,
    /// The WebSocket that it asks for.
    switch: Option<Box<(upgrade::Switch, Ask)>>,
}

impl Proxy {
    /// Answers one request. Whatever goes wrong becomes an answer too.
    ///
    /// The request is judged here and now; what is returned, and held for as long as the upstream takes, has only what is
    /// needed from there.
    pub fn answer(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        request: Request<Incoming>,
        mut entry: Entry,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let agent = Understands::by(&request);
        entry.record.method = Some(request.method().as_str().into());
        entry.record.protocol_in = Some(protocol(request.version()));
        entry.record.path = request
            .uri()
            .path_and_query()
            .map(|path| MaskedPath::new(path.as_str()));
        conn.describe(&mut entry.record);
        let judged = self.judge(conn, request, &mut entry);
        let (proxy, conn) = (Arc::clone(self), Arc::clone(conn));
        async move {
            let exchanged = match judged {
                Ok(judged) => proxy.exchange(judged, &mut entry).await,
                Err(fault) => Err(fault),
            };
            proxy.reply(&conn, exchanged, entry, agent)
        }
    }

    /// What an exchange ended in, as the agent gets it.
    fn reply(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        exchanged: Result<Reply, Fault>,
        mut entry: Entry,
        agent: Understands,
    ) -> Response<Body> {
        match exchanged {
            Ok(Reply::Whole(response, rule, lease)) => {
                entry.record.status = Some(response.status().as_u16());
                let limits = &rule.limits;
                let deadline = limits.time.map(|time| entry.start + time);
                response.map(|body| {
                    let body = if agent.head { Body::Empty } else { body };
                    let recorded = Recorded::new(body, entry, Some(lease)).cap(limits.response_body);
                    Body::wrap(recorded.deadline(deadline))
                })
            }
            Ok(Reply::Switching(response, splice)) => {
                entry.record.status = Some(response.status().as_u16());
                let (proxy, conn) = (Arc::clone(self), Arc::clone(conn));
                self.tasks.spawn(async move { splice.run(&proxy, &conn, entry).await });
                response
            }
            Err(fault) => refuse(fault, entry, agent),
        }
    }

    fn judge(&self, conn: &Conn, request: Request<Incoming>, entry: &mut Entry) -> Result<Judged, Fault> {
        // First of all: whatever refuses the request, its body is let go of in the right way.
        let version = request.version();
        let mut request = request.map(|body| self.observed(body, version, conn, entry));
        ready(self)?;
        let live = self.live();
        let agent = conn.agent(&live)?;
        entry.record.agent = live.agent_name(agent);
        entry.place = live.request_of(agent)?;
        let switch = upgrade::Switch::asked(&mut request)?;
        let (mut parts, body) = request.into_parts();
        let ask = Ask::read(&conn.target, conn.scheme, &parts)?;
        hygiene::request(&mut parts.headers);
        few_fields(&parts.headers)?;
        if let Some(switch) = &switch {
            switch.dress(&mut parts);
        }
        let mut permitted = live.policy.permit(agent, &ask, Request::from_parts(parts, body))?;
        self.note(&live, &permitted, entry);
        let rule = Arc::clone(permitted.rule());
        cap_request(&mut permitted, &rule.limits)?;
        Ok(Judged {
            agent,
            rule,
            memory: live.memory_of(agent),
            switch: switch.map(|switch| Box::new((switch, ask))),
            permitted,
            live,
        })
    }

    async fn exchange(&self, judged: Judged, entry: &mut Entry) -> Result<Reply, Fault> {
        let Judged {
            live,
            agent,
            mut permitted,
            rule,
            memory,
            switch,
        } = judged;
        let armed = live.injector.arm(&mut permitted, &memory).await?;
        entry.record.credentials.clone_from(&armed.credentials);
        // A reply can only be searched in codings that are known here, and decoded while there is memory for it.
        let capture = permitted.rule().capture().cloned();
        let asked = match (armed.needles.is_empty() && capture.is_none(), memory.is_scarce()) {
            (true, _) => Asked::default(),
            (false, true) => scrub::ask_plainly(permitted.headers_mut()),
            (false, false) => scrub::ask(permitted.headers_mut()),
        };
        let renewable = live.injector.may_renew(permitted.rule_id());
        let again = renewable.then(|| permitted.replay()).flatten();
        // Whatever an upstream says of itself, in a certificate too, may be what it was given.
        let certificate = armed.certificate.clone();
        let forwarded = self.forward(&live, (permitted, certificate), &rule.limits, entry).await;
        let answer = forwarded.map_err(|fault| fault.masked(&armed.needles))?;
        let (answer, armed) = match again {
            // Boxed: it is a second exchange, and hardly ever needed.
            Some(again) if answer.response.status() == StatusCode::UNAUTHORIZED => {
                Box::pin(self.once_more(&live, (answer, armed), again, &rule.limits, entry)).await?
            }
            _ => (answer, armed),
        };
        if armed.timed || renewable {
            doubt_clock(&answer, entry);
            live.injector.heed(&armed, &answer.response);
        }
        if let Some(capture) = capture {
            let asked = captured::Asked {
                agent,
                capture: &capture,
                memory: &memory,
            };
            let (reply, lease) = Box::pin(captured::whole(&live, answer, &armed, asked, entry)).await?;
            return Ok(Reply::Whole(reply, rule, lease));
        }
        match switch {
            Some(switch) if upgrade::Switch::is_agreed(&answer) => {
                let (switch, ask) = *switch;
                let (response, splice) = switch.agree(answer, armed, ask, &entry.scrubbed)?;
                let splice = splice.within(rule.limits.clone());
                Ok(Reply::Switching(response, Box::new(splice)))
            }
            _ => {
                let (reply, lease) = whole(answer, &armed, (asked, &memory), entry)?;
                Ok(Reply::Whole(reply, rule, lease))
            }
        }
    }

    /// Counts the body, and holds back the agent's end of input until it is whole. One that has ended already, as
    /// that of most requests, needs neither.
    fn observed(&self, body: Incoming, version: Version, conn: &Conn, entry: &Entry) -> Body {
        if body.is_end_stream() {
            return Body::Empty;
        }
        let counted = Counted::new(body.into(), Arc::clone(&entry.bytes_in));
        let body = Body::wrap(if version == Version::HTTP_2 {
            counted.drained_by(&self.tasks)
        } else {
            counted
        });
        match &conn.hold {
            Some(hold) => Body::wrap(Whole::new(body, hold.clone())),
            None => body,
        }
    }

    fn note(&self, live: &Live, permitted: &Permitted, entry: &mut Entry) {
        entry.record.rule = Some(Arc::clone(&permitted.rule().name));
        entry.rule = live.rules.get(permitted.rule_id().index()).cloned();
    }

    pub(super) async fn forward(
        &self,
        live: &Live,
        (permitted, certificate): (Permitted, Option<Arc<ClientCertificate>>),
        limits: &RuleLimits,
        entry: &mut Entry,
    ) -> Result<Answer, Fault> {
        let mut sending = std::pin::pin!(live.upstream.forward(permitted, certificate));
        let answer = match limits.time {
            None => sending.await?,
            Some(time) => {
                let deadline = entry.start + time;
                let timed = tokio::time::timeout_at(deadline.into(), sending.as_mut()).await;
                timed.map_err(|_| {
                    let told = "the exchange took longer than the rule allows";
                    Fault::broken(StatusCode::GATEWAY_TIMEOUT, "exchange_timeout", told, told)
                })??
            }
        };
        let times = answer.times;
        let durations = &mut entry.record.durations;
        if !times.reused {
            durations.dns = Some(times.dns);
            durations.connect = Some(times.connect);
            durations.tls = Some(times.tls);
            self.metrics.upstream_opened.inc();
        } else {
            self.metrics.upstream_reused.inc();
        }
        durations.queue = Some(times.queue).filter(|queue| !queue.is_zero());
        let first_byte = Instant::now() - entry.start;
        durations.first_byte = Some(first_byte);
        self.metrics.first_byte.observe(first_byte.as_secs_f64());
        entry.record.protocol_out = Some(if times.http2 { "h2" } else { "h1" });
        Ok(answer)
    }
}

/// What an exchange ends in.
pub(super) enum Reply {
    Whole(Response<Body>, Arc<Rule>, Lease),
    Switching(Response<Body>, Box<Splice>),
}

/// Notes that a refusal may be the clock's fault: what was signed, or had as a token, is good for a while only.
fn doubt_clock(answer: &Answer, entry: &mut Entry) {
    if clock::may_refuse(answer.response.status()) {
        let doubt = clock::doubt(answer.response.headers(), SystemTime::now());
        entry.record.reason = doubt.map(Into::into);
    }
}

/// The upstream's reply, cleaned and scrubbed, its body still to come.
fn whole(
    answer: Answer,
    armed: &Armed,
    (asked, memory): (Asked, &Budget),
    entry: &Entry,
) -> Result<(Response<Body>, Lease), Fault> {
    let Answer { response, lease, .. } = answer;
    let (mut parts, body) = response.into_parts();
    if parts.status.is_informational() {
        // hyper passes over every other 1xx; a 101 nobody asked for is no answer (RFC 9110 §15.2.2).
        let told = "the upstream switched protocols unasked";
        return Err(Fault::broken(StatusCode::BAD_GATEWAY, "upstream_protocol", told, told));
    }
    if !body.is_end_stream() && !is_only_chunked(&parts.headers) {
        let told = "the upstream's reply has a transfer coding that nobody asked for";
        return Err(Fault::broken(StatusCode::BAD_GATEWAY, "upstream_protocol", told, told));
    }
    hygiene::response(&mut parts.headers);
    parts.version = Version::HTTP_11;
    let body = scrub::reply(&mut parts, body, &armed.needles, asked, &entry.scrubbed, memory)?;
    Ok((Response::from_parts(parts, body), lease))
}

/// hyper holds HTTP/1.1 to so many fields; HTTP/2 it holds to their size alone.
fn few_fields(headers: &http::HeaderMap) -> Result<(), Fault> {
    if headers.len() <= MOST_HEADERS {
        return Ok(());
    }
    let told = format!(
        "the request has {} header fields; {MOST_HEADERS} are taken",
        headers.len()
    );
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Err(Fault::refused(status, "head_too_large", told))
}

/// Refuses a body whose stated length is over the cap, and cuts one that turns out to be.
fn cap_request(permitted: &mut Permitted, limits: &RuleLimits) -> Result<(), Fault> {
    let Some(cap) = limits.request_body else { return Ok(()) };
    let stated = permitted
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<u64>().ok());
    if stated.is_some_and(|length| length > cap) {
        let told = super::counted::TooLarge(cap).to_string();
        let fault = Fault::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", told);
        return Err(Fault {
            rule: Some(Arc::clone(&permitted.rule().name)),
            outcome: Outcome::Denied,
            ..fault
        });
    }
    permitted.map_body(|body| Body::wrap(Capped::new(body, cap)));
    Ok(())
}
