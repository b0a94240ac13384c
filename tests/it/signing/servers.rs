//! Servers that check signatures, each behind TLS of the test's own root.

use crate::rig::root::{Root, Validity};
use crate::rig::running::Running;
use crate::rig::{PATIENCE, proxy, tools};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server that is ended with the test, and where its TLS is.
pub struct Server {
    pub address: SocketAddr,
    /// Where it is without TLS.
    pub plain: SocketAddr,
    pub running: Running,
}

impl Server {
    /// Starts `command`, which is to listen on `plain`, for these names.
    pub async fn start(root: &Root, names: &[&str], command: Command, plain: SocketAddr) -> Self {
        let running = Running::start(command);
        let end = tokio::time::Instant::now() + PATIENCE;
        while TcpStream::connect(plain).await.is_err() {
            assert!(
                tokio::time::Instant::now() < end,
                "it does not listen: {}",
                running.log()
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let tls = TlsAcceptor::from(root.server(names, Validity::Now, &["http/1.1"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(pass(tls.clone(), tcp, plain));
            }
        });
        Self {
            address,
            plain,
            running,
        }
    }
}

async fn pass(tls: TlsAcceptor, tcp: TcpStream, plain: SocketAddr) {
    if let (Ok(mut agent), Ok(mut server)) = (tls.accept(tcp).await, TcpStream::connect(plain).await) {
        let _ = copy_bidirectional(&mut agent, &mut server).await;
    }
}

pub async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Moto's server, which checks signatures with botocore after its first `open` calls.
pub async fn moto(root: &Root, names: &[&str], open: u32, dir: &Path) -> Server {
    let at = free().await;
    let mut command = Command::new(tools::python());
    proxy::bare(&mut command, dir);
    command
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &at.port().to_string()])
        .env("INITIAL_NO_AUTH_ACTION_COUNT", open.to_string());
    Server::start(root, names, command, at).await
}

/// `s3s-fs`, which checks the signature of each request, chunk and trailer.
pub async fn s3s(root: &Root, name: &str, id: &str, secret: &str, dir: &Path) -> Server {
    let at = free().await;
    let program = tools::installed().join("bin/s3s-fs");
    assert!(
        program.is_file(),
        "`s3s-fs` is not installed; run scripts/test once, it installs it"
    );
    std::fs::create_dir_all(dir.join("s3/bucket")).unwrap();
    let mut command = Command::new(program);
    proxy::bare(&mut command, dir);
    command
        .args(["--host", "127.0.0.1", "--port", &at.port().to_string()])
        .args(["--access-key", id, "--secret-key", secret])
        .arg(dir.join("s3"));
    // The bucket in the name, as AWS has it.
    if let Some((_, domain)) = name.split_once('.').filter(|(_, domain)| domain.starts_with("s3.")) {
        command.args(["--domain", domain]);
    }
    Server::start(root, &[name], command, at).await
}
