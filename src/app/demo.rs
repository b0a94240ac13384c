//! The whole of it on one machine, checked as it goes: a local HTTPS service that demands a bearer
//! token and echoes it back, a secret in the encrypted store, and a command behind the proxy. It
//! takes the same path as `run`.

use super::run::{Command, prepare};
use super::seed;
use crate::base::host::Host;
use crate::base::secret::Secret;
use crate::base::tasks::Tasks;
use crate::ca::authority::Authority;
use crate::ca::leaves::Leaves;
use crate::config::Config;
use crate::config::model::CaSource;
use crate::listen::{Accepted, Bound, serve};
use crate::store::{EncryptedFile, KeySource};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Where the service is, as the agent knows it.
pub const SERVICE: &str = "api.demo.test";
/// Where no rule leads.
pub const ELSEWHERE: &str = "elsewhere.demo.test";
/// The variable in which the agent looks for its token.
pub const TOKEN_VARIABLE: &str = "DEMO_TOKEN";
/// The variable that tells the agent where to write its report.
pub const REPORT_VARIABLE: &str = "DEMO_REPORT";

/// What the agent saw, in its own words.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// All of its environment.
    pub environment: Vec<(String, String)>,
    /// The allowed request, one with a method no rule allows, and one to a host no rule allows.
    pub replies: Vec<Reply>,
}

/// One reply as the agent got it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// The status, of the CONNECT if that was refused.
    pub status: u16,
    /// All after the status line.
    pub text: String,
}

/// One line of the table.
#[derive(Debug)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// Whether it is as promised.
    pub held: bool,
}

/// What the service received.
type Received = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// Runs it all, with `agent` as the command.
///
/// # Errors
/// When a part cannot be set up.
pub async fn run(agent: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> Result<Vec<Finding>> {
    let dir = tempfile::Builder::new()
        .prefix("keyferry-demo-")
        .tempdir()
        .context("cannot make a directory")?;
    let token = format!("demo_sk_{}", seed::random_hex()?);
    EncryptedFile::new(dir.path(), KeySource::from_env()).set("demo", Secret::new(token.clone().into_bytes())?)?;
    let tasks = Tasks::new();
    let received = Received::default();
    let port = service(dir.path(), &token, Arc::clone(&received), &tasks).await?;
    let config = config(dir.path(), port)?;
    let report = dir.path().join("report.json");
    let mut environment = environment;
    environment.push((REPORT_VARIABLE.into(), report.clone().into()));
    let command = Command {
        wall: None,
        words: agent,
        environment,
        keep: Vec::new(),
        no_proxy: Vec::new(),
        data_dir: dir.path().to_owned(),
        agent: None,
        gateway: false,
    };
    let prepared = prepare(config, command).await?;
    let log = prepared.app.proxy.log.clone();
    let ran = prepared.run().await?;
    tasks.finish(Duration::from_secs(1)).await;
    let text = std::fs::read_to_string(&report).context("the agent left no report")?;
    let seen: Seen = serde_json::from_str(&text).context("the agent's report is not readable")?;
    if ran.exit.0 != 0 {
        bail!("the agent ended with exit code {}", ran.exit.0);
    }
    let scrubbed = log.tail(100).iter().map(|record| record.scrubbed).sum();
    Ok(findings(
        &token,
        &text,
        &seen,
        &received.lock(),
        scrubbed,
        ran.totals.denied,
    ))
}

/// Judges what happened; each line can come out false.
fn findings(
    token: &str,
    report: &str,
    seen: &Seen,
    received: &[(String, HeaderMap)],
    scrubbed: u64,
    denied: u64,
) -> Vec<Finding> {
    let held = seen
        .environment
        .iter()
        .find(|(name, _)| name == TOKEN_VARIABLE)
        .map(|(_, value)| value.as_str());
    let placeholder = held.unwrap_or_default();
    let reply = |at: usize| seen.replies.get(at);
    let is_denied = |at| reply(at).is_some_and(|r| r.status == 403 && r.text.contains("denied_by_policy"));
    let got: Vec<_> = received
        .iter()
        .filter_map(|(_, headers)| headers.get(AUTHORIZATION)?.to_str().ok())
        .collect();
    let bearer = format!("Bearer {token}");
    let echo = reply(0).map(|r| r.text.as_str()).unwrap_or_default();
    vec![
        Finding {
            what: "the agent held",
            found: format!("{TOKEN_VARIABLE}={placeholder}"),
            held: held.is_some_and(|h| h.len() == token.len() && h.starts_with("demo_sk_")) && !report.contains(token),
        },
        Finding {
            what: "the service got",
            found: format!(
                "{} request with Authorization: Bearer {}…",
                received.len(),
                prefix(token)
            ),
            held: got == [bearer.as_str()] && reply(0).is_some_and(|r| r.status == 200),
        },
        Finding {
            what: "denied: a method without a rule",
            found: format!(
                "POST https://{SERVICE}/v1/whoami -> {}",
                reply(1).map_or(0, |r| r.status)
            ),
            held: is_denied(1) && received.iter().all(|(method, _)| method == "GET"),
        },
        Finding {
            what: "denied: a host without a rule",
            found: format!("GET https://{ELSEWHERE}/ -> {}", reply(2).map_or(0, |r| r.status)),
            held: is_denied(2) && denied == 2,
        },
        Finding {
            what: "scrubbed from the reply",
            found: format!("{scrubbed} copies that the service echoed; the agent read its placeholder there"),
            held: scrubbed >= 2 && echo.matches(placeholder).count() >= 2 && !echo.contains(token),
        },
    ]
}

fn prefix(token: &str) -> &str {
    token.get(..12).unwrap_or_default()
}

fn config(dir: &Path, port: u16) -> Result<Config> {
    let text = format!(
        "\
ca: {{ memory: true }}
audit: none
upstream:
  roots: [./service-root.pem]
  resolve: {{ {SERVICE}: \"127.0.0.1:{port}\" }}
  allow_networks: [127.0.0.0/8]
secrets:
  demo: {{ store: demo, agent_env: {TOKEN_VARIABLE} }}
rules:
  - name: demo
    host: {SERVICE}
    allow: [\"GET /v1/**\"]
    inject: [{{ bearer: demo }}]
"
    );
    let loaded = Config::parse(&text, &dir.join("demo.yaml"));
    Ok(loaded
        .map_err(|mistakes| anyhow::anyhow!(mistakes.render(false)))?
        .config)
}

/// Starts the service, under a private root of its own that is left in `dir`. Returns its port.
async fn service(dir: &Path, token: &str, received: Received, tasks: &Tasks) -> Result<u16> {
    let root = Arc::new(Authority::open(&CaSource::Memory)?);
    std::fs::write(dir.join("service-root.pem"), root.certificate_pem())?;
    let leaves = Leaves::new(root, 1)?;
    let acceptor = TlsAcceptor::from(leaves.server_config(&Host::parse(SERVICE)?).await?);
    let bound = Bound::bind(&super::serve::loopback(crate::config::model::Speak::Proxy).bind, None)?;
    let crate::listen::bound::Local::Tcp(address) = bound.local().clone() else {
        bail!("the service has no port")
    };
    let expected: Arc<str> = format!("Bearer {token}").into();
    let serving = tasks.clone();
    let each = move |accepted: Accepted| {
        let (acceptor, received, expected) = (acceptor.clone(), Arc::clone(&received), Arc::clone(&expected));
        let tasks = serving.clone();
        async move {
            let Ok(stream) = acceptor.accept(accepted.wire).await else {
                return;
            };
            let service = service_fn(|request: Request<Incoming>| {
                let reply = answer(&request, &received, &expected);
                async move { Ok::<_, Infallible>(reply) }
            });
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            let served = if http2 {
                http2::Builder::new(tasks.clone()).serve_connection(io, service).await
            } else {
                http1::Builder::new().serve_connection(io, service).await
            };
            if let Err(error) = served {
                tracing::debug!("the demo's service: {error}");
            }
        }
    };
    tasks.spawn(serve(
        Arc::new(bound),
        Arc::new(Semaphore::new(16)),
        tasks.clone(),
        STALL_TIME,
        each,
    ));
    Ok(address.port())
}

/// The demo's own client takes its answer at once.
const STALL_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// Wants the token, and echoes it in a header and in the body, as careless services do.
fn answer(request: &Request<Incoming>, received: &Received, expected: &str) -> Response<Full<Bytes>> {
    received
        .lock()
        .push((request.method().to_string(), request.headers().clone()));
    let offered = request.headers().get(AUTHORIZATION).cloned();
    let mut reply = Response::new(Full::default());
    match offered {
        Some(offered) if offered.as_bytes() == expected.as_bytes() => {
            *reply.body_mut() = Full::from(format!("you sent: {}\n", String::from_utf8_lossy(offered.as_bytes())));
            reply.headers_mut().insert("x-you-sent", offered);
        }
        _ => *reply.status_mut() = StatusCode::UNAUTHORIZED,
    }
    reply
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
    use super::*;
    use http::HeaderValue;

    const REAL: &str = "demo_sk_0123456789abcdef";
    const HELD: &str = "demo_sk_fedcba9876543210";

    type Spoil = fn(&mut Run);

    /// What a run leaves to be judged.
    struct Run {
        seen: Seen,
        received: Vec<(String, HeaderMap)>,
        scrubbed: u64,
        denied: u64,
    }

    impl Run {
        fn good() -> Self {
            let reply = |status, text: &str| Reply {
                status,
                text: text.to_owned(),
            };
            let echo = format!("x-you-sent: Bearer {HELD}\r\n\r\nyou sent: Bearer {HELD}\n");
            let refused = "x-keyferry-error: denied_by_policy";
            let bearer = HeaderValue::from_str(&format!("Bearer {REAL}")).unwrap();
            Self {
                seen: Seen {
                    environment: vec![(TOKEN_VARIABLE.to_owned(), HELD.to_owned())],
                    replies: vec![reply(200, &echo), reply(403, refused), reply(403, refused)],
                },
                received: vec![("GET".to_owned(), HeaderMap::from_iter([(AUTHORIZATION, bearer)]))],
                scrubbed: 2,
                denied: 2,
            }
        }

        /// Which lines of the table do not hold.
        fn broken(&self) -> Vec<usize> {
            let report = serde_json::to_string(&self.seen).unwrap();
            let found = findings(REAL, &report, &self.seen, &self.received, self.scrubbed, self.denied);
            assert_eq!(found.len(), 5);
            (0..found.len()).filter(|at| !found[*at].held).collect()
        }
    }

    #[test]
    fn each_line_of_the_table_comes_out_false_when_its_promise_is_broken() {
        assert_eq!(Run::good().broken(), [0_usize; 0]);
        let breaks: [(&[usize], Spoil); 9] = [
            (&[0, 4], |run| run.seen.environment[0].1 = REAL.to_owned()),
            (&[0], |run| {
                run.seen.environment.push(("OTHER".to_owned(), REAL.to_owned()))
            }),
            (&[1], |run| run.received[0].1.clear()),
            (&[1], |run| run.received.push(run.received[0].clone())),
            (&[2], |run| run.received[0].0 = "POST".to_owned()),
            (&[2], |run| run.seen.replies[1].status = 200),
            (&[3], |run| run.seen.replies[2].text.clear()),
            (&[3], |run| run.denied = 1),
            (&[0, 4], |run| run.seen.replies[0].text = format!("{REAL} {REAL}")),
        ];
        for (lines, spoil) in breaks {
            let mut run = Run::good();
            spoil(&mut run);
            assert_eq!(run.broken(), lines);
        }
    }
}
