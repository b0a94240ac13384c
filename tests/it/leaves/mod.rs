//! Minted leaves, shown to the TLS libraries that agents use.

mod clients;
mod own;
mod resumption;
mod trust;

use crate::rig::tools;
use keyferry::base::host::Host;
use keyferry::base::tasks::Tasks;
use keyferry::ca::authority::Authority;
use keyferry::ca::bundle::Bundle;
use keyferry::ca::leaves::Leaves;
use keyferry::config::model::CaSource;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;

/// A TLS server on loopback that presents whatever leaf the client's SNI asks for, or without one
/// that of the address it came to, and answers one request with `ok`.
///
/// It runs on threads of its own, so that a test may wait for a client program.
pub struct Server {
    pub authority: Arc<Authority>,
    pub address: SocketAddr,
    /// Trust files and whatever else a client needs.
    pub folder: TempDir,
    pub bundle: Bundle,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub fn start(source: &CaSource) -> Self {
        let authority = Arc::new(Authority::open(source).unwrap());
        let leaves = Arc::new(Leaves::new(authority.clone(), 100).unwrap());
        let folder = TempDir::new().unwrap();
        let bundle = Bundle::write(folder.path(), &authority, None).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        // Every loopback address, so that two addresses are two hosts.
        let listener = runtime.block_on(TcpListener::bind("0.0.0.0:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(accept(listener, leaves, Tasks::new()));
        Self {
            authority,
            address: ([127, 0, 0, 1], port).into(),
            folder,
            bundle,
            _runtime: runtime,
        }
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub fn ca(&self) -> &Path {
        self.bundle.ca_pem()
    }
}

async fn accept(listener: TcpListener, leaves: Arc<Leaves>, tasks: Tasks) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let leaves = leaves.clone();
        tasks.spawn(async move {
            // Clients that refuse the leaf are part of the tests.
            let _ = serve(stream, &leaves).await;
        });
    }
}

async fn serve(stream: TcpStream, leaves: &Leaves) -> std::io::Result<()> {
    let local = stream.local_addr()?.ip();
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let host = match start.client_hello().server_name() {
        Some(name) => Host::parse(name).unwrap(),
        None => Host::from(local),
    };
    let config = leaves.server_config(&host).await.unwrap();
    let mut tls = start.into_stream(config).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 4096];
        let count = tls.read(&mut chunk).await?;
        if count == 0 {
            break;
        }
        head.extend_from_slice(&chunk[..count]);
    }
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        .await?;
    tls.shutdown().await
}

/// A name too long for a common name, as long as labels of fair length make it.
pub fn long_name() -> String {
    let name = format!(
        "{}.{}.{}.{}.test",
        "a".repeat(60),
        "b".repeat(60),
        "c".repeat(60),
        "d".repeat(40)
    );
    assert!(name.len() > 200);
    name
}

/// The hosts that every client is to accept: a name, a long one, an address.
pub fn hosts() -> [String; 3] {
    ["leaf.test".to_owned(), long_name(), "127.0.0.1".to_owned()]
}

/// Runs a client with nothing in its environment that could lend it trust.
pub fn run(program: &str, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(tools::need(program));
    command
        .args(args)
        .env_clear()
        .env("PATH", tools::path())
        .env("HOME", std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into()))
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command.output().unwrap()
}

/// What a client said, for a failed assertion.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A file beside the tests.
pub fn probe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/leaves/probes")
        .join(name)
}
