//! The reply of a token endpoint, whose tokens are kept from the agent.

use super::fault::Fault;
use super::hygiene;
use super::live::Live;
use super::recorded::Entry;
use crate::base::ask::is_only_chunked;
use crate::base::body::Body;
use crate::base::budget::Budget;
use crate::base::ids::AgentId;
use crate::config::model::Capture;
use crate::inject::Armed;
use crate::inject::captured::{Exchange, Unreadable};
use crate::net::{Answer, Lease};
use http::{Response, Version};
use http_body::Body as _;
use std::sync::atomic::Ordering;

/// Whose reply it is, and by which rule.
pub(super) struct Asked<'a> {
    pub(super) agent: AgentId,
    pub(super) capture: &'a Capture,
    pub(super) memory: &'a Budget,
}

/// The reply with stand-ins for its tokens, whole.
///
/// # Errors
/// When it cannot be read for certain. Then nothing of it is passed on.
pub(super) async fn whole(
    live: &Live,
    answer: Answer,
    armed: &Armed,
    asked: Asked<'_>,
    entry: &Entry,
) -> Result<(Response<Body>, Lease), Fault> {
    let Answer { response, lease, .. } = answer;
    let (mut parts, body) = response.into_parts();
    if parts.status.is_informational() || !body.is_end_stream() && !is_only_chunked(&parts.headers) {
        return Err(Unreadable::Kind.into());
    }
    hygiene::response(&mut parts.headers);
    parts.version = Version::HTTP_11;
    let agent = live.agent_name(asked.agent).unwrap_or_else(|| "?".into());
    let exchange = Exchange {
        capture: asked.capture,
        agent: &agent,
        given: &armed.tokens,
        needles: &armed.needles,
        memory: asked.memory,
        time: live.config.limits.response_time,
    };
    let (body, hits) = live.captured.reply(&mut parts, body, &exchange).await?;
    entry.scrubbed.fetch_add(hits, Ordering::Relaxed);
    Ok((Response::from_parts(parts, body), lease))
}
