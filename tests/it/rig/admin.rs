//! What the operator's listener tells.

use super::proxy::Proxy;
use super::{eventually, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A page of it: head and body.
pub async fn page(proxy: &Proxy, path: &str) -> String {
    let address = eventually("the operator's listener", || {
        let log = proxy.child.log();
        let line = log.lines().find(|line| line.contains("(admin)"))?;
        let address = line.split("listening on ").nth(1)?.split(' ').next()?;
        Some(address.to_owned())
    })
    .await;
    let mut io = TcpStream::connect(&address).await.unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    io.write_all(ask.as_bytes()).await.unwrap();
    let mut told = String::new();
    soon("a page", io.read_to_string(&mut told)).await.unwrap();
    told
}

/// The value of a metric without labels.
pub async fn metric(proxy: &Proxy, name: &str) -> i64 {
    let told = page(proxy, "/metrics").await;
    let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value: f64 = line.unwrap_or_else(|| panic!("no {name} in {told}")).parse().unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "counts")]
    let value = value as i64;
    value
}
