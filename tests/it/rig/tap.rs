//! A line in front of the proxy that keeps what clients say, connection by connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Said = Arc<Mutex<Vec<u8>>>;

/// Passes every byte on, and keeps those from clients.
#[derive(Clone)]
pub struct Tap {
    /// Where clients connect instead of to the proxy.
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<Said>>>,
}

impl Tap {
    /// A tap before the proxy at `proxy`.
    pub async fn before(proxy: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tap = Self {
            address: listener.local_addr().unwrap(),
            lines: Arc::default(),
        };
        let lines = tap.lines.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let said = Said::default();
                lines.lock().unwrap().push(said.clone());
                tokio::spawn(pass(client, proxy, said));
            }
        });
        tap
    }

    /// What clients said so far, one text for each connection on which they said anything.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let texts = lines
            .iter()
            .map(|said| String::from_utf8_lossy(&said.lock().unwrap()).into_owned());
        texts.filter(|text| !text.is_empty()).collect()
    }
}

async fn pass(client: TcpStream, proxy: SocketAddr, said: Said) {
    let Ok(proxy) = TcpStream::connect(proxy).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_proxy, mut to_proxy) = proxy.into_split();
    let outward = async {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut piece).await {
            said.lock().unwrap().extend_from_slice(&piece[..count]);
            if to_proxy.write_all(&piece[..count]).await.is_err() {
                break;
            }
        }
        let _ = to_proxy.shutdown().await;
    };
    let inward = async {
        let _ = tokio::io::copy(&mut from_proxy, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(outward, inward);
}
