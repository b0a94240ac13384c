//! What is kept of one exchange.

use crate::base::host::Target;
use serde::{Serialize, Serializer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// What is kept of one exchange.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// When it began.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The id that the agent was told too.
    pub request_id: Box<str>,
    /// Who asked, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
    /// The other side of the agent's connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Arc<str>>,
    /// The way in it took, as the listener's `speak` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// The address it was going to before it was redirected here. A hint: the target is what counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<SocketAddr>,
    /// Where it asked to go.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// How it was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// `https` or `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<&'static str>,
    /// The method, as the agent wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Box<str>>,
    /// The path, with every query value masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<MaskedPath>,
    /// What the agent spoke: `h1` or `h2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_in: Option<&'static str>,
    /// What the upstream spoke: `h1` or `h2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_out: Option<&'static str>,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// Names of the credentials that were placed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Arc<str>>,
    /// The status the agent got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How it ended, in one of three words.
    pub outcome: Outcome,
    /// How it ended: `ok`, or the code that the agent was told.
    pub code: &'static str,
    /// More on that, for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// Body bytes from the agent.
    pub bytes_in: u64,
    /// Body bytes to the agent.
    pub bytes_out: u64,
    /// Traces of credentials removed from the reply.
    pub scrubbed: u64,
    /// Where the time went.
    #[serde(rename = "ms")]
    pub durations: Durations,
}

impl Record {
    /// A record of an exchange that begins now and has not gone wrong yet.
    pub fn begin(request_id: impl Into<Box<str>>) -> Self {
        Self {
            time: SystemTime::now(),
            request_id: request_id.into(),
            agent: None,
            peer: None,
            way: None,
            original: None,
            target: None,
            mode: None,
            scheme: None,
            method: None,
            path: None,
            protocol_in: None,
            protocol_out: None,
            rule: None,
            credentials: Vec::new(),
            status: None,
            outcome: Outcome::Ok,
            code: "ok",
            reason: None,
            bytes_in: 0,
            bytes_out: 0,
            scrubbed: 0,
            durations: Durations::default(),
        }
    }

    /// Cuts what an agent or an error could make long.
    pub(super) fn bound(&mut self) {
        for (text, longest) in [(&mut self.method, 64), (&mut self.reason, 512)] {
            if let Some(long) = text.as_mut().filter(|t| t.len() > longest) {
                *long = cut(long, longest).into();
            }
        }
        if self.request_id.len() > 64 {
            self.request_id = cut(&self.request_id, 64).into();
        }
    }
}

/// The way in that an exchange took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// CONNECT or absolute-form.
    Proxy,
    /// SOCKS5, on whichever listener.
    Socks,
    /// Redirected by the firewall.
    Transparent,
    /// By base URL.
    Gateway,
    /// A question for an address.
    Dns,
}

/// How an exchange was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Bytes passed unread.
    Tunnel,
    /// Decrypted and judged.
    Intercept,
    /// Plain HTTP.
    Plain,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The upstream answered, whatever its status, and the agent got all of it.
    Ok,
    /// Keyferry refused.
    Denied,
    /// It was allowed, and broke.
    Failed,
}

/// Where the time of an exchange went; written in milliseconds, and only what was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Durations {
    /// Waiting for a slot.
    #[serde(serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub queue: Option<Duration>,
    /// Resolving the name.
    #[serde(serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub dns: Option<Duration>,
    /// Connecting.
    #[serde(serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
    /// The TLS handshake with the upstream.
    #[serde(serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub tls: Option<Duration>,
    /// From the request's head to the head of the response.
    #[serde(serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Duration>,
    /// From the request's head to the end of the response.
    #[serde(serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub total: Option<Duration>,
}

/// A path whose query values cannot be read, as keys and tokens are often put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MaskedPath(Box<str>);

impl MaskedPath {
    /// Keeps the path and the names of the query's parameters, each value replaced by `***`, and
    /// no more than 2048 bytes of it all.
    pub fn new(path_and_query: &str) -> Self {
        let path_and_query = path_and_query.split('#').next().unwrap_or_default();
        let Some((path, query)) = path_and_query.split_once('?') else {
            return Self(cut(path_and_query, LONGEST_PATH).into());
        };
        let mut out = String::from(cut(path, LONGEST_PATH));
        for (at, pair) in query.split('&').enumerate() {
            if out.len() >= LONGEST_PATH {
                break;
            }
            out.push(if at == 0 { '?' } else { '&' });
            // A parameter without `=` may be the key itself.
            match pair.split_once('=') {
                Some((name, _)) => {
                    out.push_str(name);
                    out.push_str("=***");
                }
                None if pair.is_empty() => {}
                None => out.push_str("***"),
            }
        }
        Self(cut(&out, LONGEST_PATH).into())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes of a path that are kept.
const LONGEST_PATH: usize = 2048;

/// The front of `text`, at most `longest` bytes, never half a character.
fn cut(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest)).unwrap_or(text)
}

/// RFC 3339, UTC, to the millisecond.
pub(super) fn stamp(at: SystemTime) -> String {
    let mut text = Vec::with_capacity(24);
    put_stamp(at, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// Appends it.
pub(super) fn put_stamp(at: SystemTime, to: &mut Vec<u8>) {
    let at = OffsetDateTime::from(at);
    let two = |number: u8| [b'0' + number / 10 % 10, b'0' + number % 10];
    let low = |number: u16| two(u8::try_from(number % 100).unwrap_or_default());
    let year = u16::try_from(at.year().unsigned_abs()).unwrap_or_default();
    let ([a, b], [c, d]) = (low(year / 100), low(year));
    let [e, f] = two(at.month().into());
    let [g, h] = two(at.day());
    let [i, j] = two(at.hour());
    let [k, l] = two(at.minute());
    let [m, n] = two(at.second());
    let [_, o] = low(at.millisecond() / 100);
    let [p, q] = low(at.millisecond());
    to.extend_from_slice(&[
        a, b, c, d, b'-', e, f, b'-', g, h, b'T', i, j, b':', k, l, b':', m, n, b'.', o, p, q, b'Z',
    ]);
}

fn rfc3339<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&stamp(*at))
}

fn as_text<S: Serializer>(target: &Option<Target>, to: S) -> Result<S::Ok, S::Error> {
    match target {
        Some(target) => to.collect_str(target),
        None => to.serialize_none(),
    }
}

fn millis<S: Serializer>(spent: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    let micros = spent.unwrap_or_default().as_micros();
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 µs, which is 285 years")]
    to.serialize_f64(micros as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
    use super::*;

    #[test]
    fn query_values_are_masked_whatever_their_form() {
        for (given, kept) in [
            ("/a/b", "/a/b"),
            ("/a?key=s3cret", "/a?key=***"),
            ("/a?key=s3=cret&b=&c", "/a?key=***&b=***&***"),
            ("/a?s3cret", "/a?***"),
            ("/a?", "/a?"),
            ("/a?x=1&&y=2", "/a?x=***&&y=***"),
            ("/a?x=1?y=s3cret", "/a?x=***"),
            ("/a#s3cret", "/a"),
        ] {
            assert_eq!(MaskedPath::new(given).as_str(), kept);
        }
    }

    #[test]
    fn an_agent_cannot_make_a_record_long() {
        let mut record = Record::begin("r");
        record.method = Some("M".repeat(10_000).into());
        record.reason = Some("é".repeat(10_000).into());
        record.path = Some(MaskedPath::new(&format!(
            "/{}?{}",
            "p".repeat(9_000),
            "q=1&".repeat(9_000)
        )));
        record.bound();
        assert!(serde_json::to_string(&record).unwrap().len() < 4_096);
    }

    #[test]
    fn control_bytes_cannot_end_the_line() {
        let mut record = Record::begin("r");
        record.path = Some(MaskedPath::new("/a\nb\r\u{1b}[2J"));
        let line = serde_json::to_string(&record).unwrap();
        assert!(line.bytes().all(|b| b >= b' '), "{line}");
    }

    #[test]
    fn a_record_reads_as_documented() {
        let mut record = Record::begin("01");
        record.time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_796_000_000_007);
        record.target = Some(Target::parse("API.example:443", None).unwrap());
        record.mode = Some(Mode::Intercept);
        record.status = Some(200);
        record.durations.total = Some(Duration::from_micros(1_500));
        let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(json["time"], "2026-11-30T00:53:20.007Z");
        assert_eq!(json["target"], "api.example:443");
        assert_eq!(
            (&json["mode"], &json["outcome"], &json["code"]),
            (&"intercept".into(), &"ok".into(), &"ok".into())
        );
        assert_eq!(json["ms"], serde_json::json!({"total": 1.5}));
    }
}
