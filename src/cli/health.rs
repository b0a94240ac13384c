//! `keyferry health`: asks the running `serve` of a config whether it is ready, for health checks where there is no other
//! program that could.

use super::settings;
use crate::config::model::Bind;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of an answer that are looked at.
const LONGEST: u64 = 4096;

/// Asks the operator's listener of the config.
///
/// # Errors
/// When it is not there, or not ready.
#[expect(clippy::print_stdout, reason = "the answer of the verb")]
pub fn run(explicit: Option<&Path>) -> Result<ExitCode> {
    let (config, path) = settings::need_config(explicit)?;
    let Some(admin) = &config.admin else {
        bail!(
            "{} has no `admin`, which is who could be asked; add `admin: 127.0.0.1:9090`",
            path.display()
        );
    };
    let told = ask(&admin.bind).with_context(|| format!("no `keyferry serve` answers at {}", admin.bind))?;
    let (head, body) = told.split_once("\r\n\r\n").unwrap_or((&told, ""));
    if head.starts_with("HTTP/1.1 200 ") {
        println!("{}", body.trim());
        return Ok(ExitCode::SUCCESS);
    }
    bail!("not ready: {}", body.trim());
}

fn ask(bind: &Bind) -> Result<String> {
    match bind {
        Bind::Tcp(address) => {
            let stream = TcpStream::connect_timeout(&near(*address), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            told(stream)
        }
        Bind::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            told(stream)
        }
        Bind::Vsock(_) | Bind::Passed(_) => bail!("its address is not known from here; ask it from outside"),
    }
}

/// The address from this machine's side.
fn near(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn told(mut stream: impl Read + Write) -> Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut told = String::new();
    stream.take(LONGEST).read_to_string(&mut told)?;
    Ok(told)
}
