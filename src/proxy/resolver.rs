//! DNS for redirected networks: a name that some rule allows to the agent has an address, and no other name has. Nothing
//! is looked up that no rule allows, so that a question is no way out.

use super::connection::{Caller, request_id};
use super::entry::ready;
use super::fault::Fault;
use super::live::{Live, Proxy};
use crate::audit::{Outcome, Record, Way};
use crate::base::host::Target;
use crate::base::ids::AgentId;
use crate::base::peer::Peer;
use crate::base::wire::Wire;
use crate::front::dns::{self, Answer, Kind, Message, Question};
use crate::identity::Unknown;
use crate::metrics::Told;
use http::StatusCode;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Lookups for questions at one time: a part of those that the whole program may have under way, or agents that only
/// ask would hold up those that connect.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

/// On one TCP connection: questions, and the time to the next.
const MOST_QUESTIONS: usize = 100;
const QUIET: Duration = Duration::from_secs(10);

/// The port that records have for a name asked after.
const DNS: u16 = 53;

/// What becomes of a question.
struct Verdict {
    told: Told,
    addresses: Arc<[IpAddr]>,
    /// What is on record, where it was not answered.
    fault: Option<Fault>,
}

/// Answers one message that came from `peer`; `None` where there is nothing to say. `answer` is what allowed names have
/// for addresses; their own where it is empty.
pub async fn answer(proxy: &Proxy, peer: Peer, answer: &Arc<[IpAddr]>, message: &[u8]) -> Option<Vec<u8>> {
    let agent = |live: &Live| live.identity.agent(&peer, None, None);
    answered(proxy, peer, agent, answer, message).await
}

/// Serves one TCP connection (RFC 7766), a question after the other.
pub async fn serve(proxy: Arc<Proxy>, mut wire: Wire, caller: Caller, answer: Arc<[IpAddr]>) {
    let _active = proxy.metrics.connected();
    for _ in 0..MOST_QUESTIONS {
        let Some(Some(message)) = proxy.first(QUIET, message(&mut wire)).await else {
            return;
        };
        let agent = |live: &Live| caller.agent(live);
        let Some(reply) = answered(&proxy, caller.peer, agent, &answer, &message).await else {
            return;
        };
        let length = u16::try_from(reply.len()).unwrap_or_default().to_be_bytes();
        if wire.write_all(&[&length[..], &reply].concat()).await.is_err() || wire.flush().await.is_err() {
            return;
        }
    }
}

/// Reads one message; `None` where the connection ends, or the message is longer than any we take.
async fn message(wire: &mut Wire) -> Option<Vec<u8>> {
    let length = usize::from(wire.read_u16().await.ok()?);
    let mut message = vec![0; Some(length).filter(|length| *length <= dns::LONGEST)?];
    wire.read_exact(&mut message).await.ok()?;
    Some(message)
}

async fn answered(
    proxy: &Proxy,
    peer: Peer,
    agent: impl Fn(&Live) -> Result<AgentId, Unknown>,
    answer: &Arc<[IpAddr]>,
    message: &[u8],
) -> Option<Vec<u8>> {
    let begun = Instant::now();
    let question = match dns::read(message) {
        Message::Question(question) => question,
        Message::Nonsense(reply) => {
            proxy.metrics.asked(Told::Malformed);
            return Some(reply);
        }
        Message::Nothing => return None,
    };
    let live = proxy.live();
    let agent = agent(&live);
    let verdict = match &agent {
        Ok(agent) => judge(proxy, &live, *agent, &question, answer).await,
        Err(_) => Verdict::without(Told::Unknown),
    };
    proxy.metrics.asked(verdict.told);
    let reply = question.reply(match verdict.told {
        Told::Answered => Answer::Addresses(&verdict.addresses),
        Told::Denied => Answer::NoName,
        Told::Refused | Told::Unknown | Told::Limited | Told::Malformed => Answer::Refused,
        Told::Failed => Answer::Failed,
    });
    if let (Ok(agent), true) = (agent, verdict.is_recorded()) {
        let mut record = record(proxy, &live, peer, agent, &question, verdict);
        record.bytes_in = message.len() as u64;
        record.bytes_out = reply.len() as u64;
        record.durations.total = Some(begun.elapsed());
        proxy.log.write(record);
    }
    Some(reply)
}

async fn judge(proxy: &Proxy, live: &Live, agent: AgentId, question: &Question, answer: &Arc<[IpAddr]>) -> Verdict {
    let Some(_held) = live.policy.question(agent) else {
        return Verdict::without(Told::Limited);
    };
    if let Err(fault) = ready(proxy) {
        return Verdict::of(Told::Failed, fault);
    }
    if question.kind == Kind::Other {
        return Verdict::of(Told::Refused, type_refused());
    }
    let Some(host) = &question.host else {
        return Verdict::of(Told::Denied, no_host());
    };
    let named = match live.policy.name(agent, host) {
        Ok(named) => named,
        Err(denied) => return Verdict::of(Told::Denied, denied.into()),
    };
    if question.kind == Kind::Service {
        return Verdict::answered(Arc::default());
    }
    if !answer.is_empty() {
        return Verdict::answered(Arc::clone(answer));
    }
    let Ok(_place) = LOOKUPS.try_acquire() else {
        return Verdict::without(Told::Limited);
    };
    // Not given up before its end, or there would be more of them than places.
    match live.upstream.look_up(&named).await {
        Ok(addresses) => Verdict::answered(addresses.into()),
        Err(error) => Verdict::of(Told::Failed, error.into()),
    }
}

impl Verdict {
    fn answered(addresses: Arc<[IpAddr]>) -> Self {
        Self {
            addresses,
            ..Self::without(Told::Answered)
        }
    }

    fn of(told: Told, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::without(told)
        }
    }

    fn without(told: Told) -> Self {
        Self {
            told,
            addresses: Arc::default(),
            fault: None,
        }
    }

    /// Whether it is on record. What can be sent without end is only counted.
    fn is_recorded(&self) -> bool {
        !matches!(self.told, Told::Limited | Told::Unknown | Told::Malformed)
    }
}

fn record(proxy: &Proxy, live: &Live, peer: Peer, agent: AgentId, question: &Question, verdict: Verdict) -> Record {
    let mut record = Record::begin(request_id());
    record.way = Some(Way::Dns);
    record.peer = Some(peer.to_string().into());
    record.agent = live.agent_name(agent);
    record.method = Some(question.type_name().into());
    record.target = question.host.clone().map(|host| Target::new(host, DNS));
    if let Some(fault) = verdict.fault {
        match fault.outcome {
            Outcome::Failed => proxy.metrics.failed(fault.code),
            Outcome::Denied | Outcome::Ok => proxy.metrics.denied(fault.code),
        }
        (record.outcome, record.code) = (fault.outcome, fault.code);
        record.reason = Some(fault.cause.unwrap_or(fault.message).into());
        record.rule = fault.rule;
    }
    record
}

fn type_refused() -> Fault {
    let told = "only addresses are told, and which service there is to a name: never";
    Fault::refused(StatusCode::FORBIDDEN, "dns_type_refused", told)
}

fn no_host() -> Fault {
    Fault::refused(StatusCode::FORBIDDEN, "denied_by_policy", "no host can have that name")
}
