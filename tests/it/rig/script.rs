//! An origin that follows a script, byte by byte: what no well-behaved server library will do.

use super::root::{Root, Validity};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// One connection to a scripted origin, after TLS.
pub struct Line {
    pub io: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A running scripted origin.
#[derive(Clone)]
pub struct Script {
    pub name: String,
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Script {
    /// Follows `script` on each connection, over HTTP/1.1.
    pub async fn start<F, S>(root: &Root, name: &str, script: S) -> Self
    where
        S: Fn(Line) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::tls(root.server(&[name], Validity::Now, &["http/1.1"]), name, script).await
    }

    /// Follows `script` on each connection, with TLS settings of the test's choice.
    pub async fn tls<F, S>(tls: Arc<ServerConfig>, name: &str, script: S) -> Self
    where
        S: Fn(Line) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (origin, listener) = Self::bind(name).await;
        let (accepting, tls, script) = (origin.clone(), TlsAcceptor::from(tls), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().follow(tcp, tls.clone(), script.clone()));
            }
        });
        origin
    }

    async fn follow<F, S>(self, tcp: TcpStream, tls: TlsAcceptor, script: Arc<S>)
    where
        S: Fn(Line) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(io) = tls.accept(tcp).await else { return };
        script(Line {
            io,
            buffer: Vec::new(),
            heard: self.heard,
        })
        .await;
    }

    /// Follows `script` on each TCP connection, with no TLS at all.
    pub async fn tcp<F, S>(name: &str, script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (origin, listener) = Self::bind(name).await;
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(script(tcp));
            }
        });
        origin
    }

    async fn bind(name: &str) -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Self {
            name: name.to_owned(),
            address,
            heard: Arc::default(),
        };
        (origin, listener)
    }

    /// Every request head read so far, as it came.
    pub fn heads(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard
            .iter()
            .map(|head| String::from_utf8_lossy(head).into_owned())
            .collect()
    }
}

impl Line {
    /// Reads one request head, up to and with its empty line; `None` when the peer is gone.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                self.heard.lock().unwrap().push(head.clone());
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if self.more().await == 0 {
                return None;
            }
        }
    }

    /// Reads exactly so many bytes of a body; fewer when the peer is gone.
    pub async fn body(&mut self, bytes: usize) -> Vec<u8> {
        while self.buffer.len() < bytes && self.more().await > 0 {}
        let end = bytes.min(self.buffer.len());
        self.buffer.drain(..end).collect()
    }

    /// Whether body bytes have come already, or come within `wait`.
    pub async fn has_more(&mut self, wait: std::time::Duration) -> bool {
        !self.buffer.is_empty() || tokio::time::timeout(wait, self.more()).await.is_ok_and(|n| n > 0)
    }

    /// Sends bytes at once.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.io.write_all(bytes.as_ref()).await;
        let _ = self.io.flush().await;
    }

    /// Ends the sending side, with the TLS alert that says so.
    pub async fn bye(mut self) {
        let _ = self.io.shutdown().await;
        // Unread bytes would turn the close into a reset and could take the answer with them.
        while self.more().await > 0 {}
    }

    /// Resets the TCP connection.
    pub fn reset(self) {
        let (tcp, _) = self.io.into_inner();
        let _ = socket2::SockRef::from(&tcp).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Waits for the peer to close or reset.
    pub async fn gone(&mut self) {
        while self.more().await > 0 {}
    }

    async fn more(&mut self) -> usize {
        self.io.read_buf(&mut self.buffer).await.unwrap_or(0)
    }
}
