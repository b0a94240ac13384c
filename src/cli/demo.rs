//! `keyferry demo`: the whole of it on one machine, as one small table. Its agent is this program
//! again under a hidden verb: a small client of its own, as anybody's program would be.

use super::settings;
use crate::app::demo::{self, ELSEWHERE, Finding, REPORT_VARIABLE, Reply, SERVICE, Seen, TOKEN_VARIABLE};
use anyhow::{Context, Result};
use comfy_table::{Table, TableStyle};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The hidden verb of the demo's agent.
pub const AGENT_VERB: &str = "__demo-agent";

/// What `demo` takes.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}

/// Runs the demo; exits 0 only if every line of the table really held in this run.
///
/// # Errors
/// When a part cannot be set up.
pub fn run(_args: &DemoArgs) -> Result<ExitCode> {
    settings::log("warn");
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let agent = vec![own.into_os_string(), AGENT_VERB.into()];
    let findings = settings::block_on(demo::run(agent, std::env::vars_os().collect()))?;
    let held = findings.iter().all(|finding| finding.held);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table(&findings))?;
    writeln!(
        out,
        "{}",
        if held {
            "every promise held"
        } else {
            "a promise was broken"
        }
    )?;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    for finding in findings {
        let mark = if finding.held { "ok" } else { "BROKEN" };
        table.add_row([mark, finding.what, &finding.found]);
    }
    table
}

/// The demo's agent: it uses the token it finds, tries two things it may not do, and reports all it saw.
///
/// # Errors
/// When its environment is not as `run` makes it, or the proxy does not answer.
#[expect(
    clippy::disallowed_methods,
    reason = "an agent reads its own environment, as any program does"
)]
pub fn agent() -> Result<ExitCode> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let (proxy, roots, token) = (
        variable("HTTPS_PROXY")?,
        variable("SSL_CERT_FILE")?,
        variable(TOKEN_VARIABLE)?,
    );
    // A process of the same user needs to show no credentials, so the host and port are enough.
    let proxy = proxy
        .trim_end_matches('/')
        .rsplit(['@', '/'])
        .next()
        .unwrap_or_default()
        .to_owned();
    let tls = trusting(&roots)?;
    let ask = |method: &str, host: &str| request(&proxy, &tls, method, host, &token);
    let replies = vec![ask("GET", SERVICE)?, ask("POST", SERVICE)?, ask("GET", ELSEWHERE)?];
    let seen = Seen {
        environment: std::env::vars().collect(),
        replies,
    };
    std::fs::write(variable(REPORT_VARIABLE)?, serde_json::to_vec(&seen)?)?;
    Ok(ExitCode::SUCCESS)
}

fn trusting(roots: &str) -> Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(roots)?.collect::<Result<Vec<_>, _>>()?;
    store.add_parsable_certificates(certificates);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(store).with_no_client_auth()))
}

/// One request through the proxy, on a connection of its own.
fn request(proxy: &str, tls: &Arc<ClientConfig>, method: &str, host: &str, token: &str) -> Result<Reply> {
    let mut stream = TcpStream::connect(proxy).with_context(|| format!("cannot connect to the proxy at {proxy}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n")?;
    let head = read_head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 200") {
        let mut text = head.into_bytes();
        // A refusal says how long it is; the connection stays open.
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        let _ = stream.read_to_end(&mut text);
        return Ok(reply(&text));
    }
    let connection = ClientConnection::new(Arc::clone(tls), ServerName::try_from(host.to_owned())?)?;
    let mut stream = StreamOwned::new(connection, stream);
    let head = format!("{method} /v1/whoami HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n");
    write!(stream, "{head}Content-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(reply(&text))
}

fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream
            .read_exact(&mut byte)
            .context("the proxy closed the connection")?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn reply(bytes: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(bytes);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Reply {
        status,
        text: text
            .split_once("\r\n")
            .map(|(_, rest)| rest.to_owned())
            .unwrap_or_default(),
    }
}
