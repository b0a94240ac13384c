//! The way to an origin: through a proxy by CONNECT, or straight to a TLS port.

use crate::tls::connector;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where to, as the command line has it.
#[derive(clap::Args, Clone)]
pub struct WayArgs {
    /// Where to connect
    #[arg(long)]
    addr: SocketAddr,
    /// Speak TLS at once, without CONNECT
    #[arg(long)]
    no_connect: bool,
    /// The name to ask for
    #[arg(long)]
    host: String,
    #[arg(long, default_value_t = 443)]
    port: u16,
    /// PEM files to trust
    #[arg(long = "root", required = true)]
    roots: Vec<PathBuf>,
    /// `Authorization` to send, where nobody injects one
    #[arg(long)]
    authorization: Option<String>,
    /// Speak HTTP/2
    #[arg(long)]
    http2: bool,
    /// Resume TLS sessions
    #[arg(long)]
    resume: bool,
}

/// Where to, ready to be dialled.
pub struct Way {
    args: WayArgs,
    connector: TlsConnector,
}

/// TLS to whoever answers for the origin.
pub type Link = TlsStream<TcpStream>;

/// Bytes in the head of an answer to CONNECT.
const LONGEST_ANSWER: usize = 16 * 1024;

impl Way {
    pub fn new(args: &WayArgs) -> io::Result<Self> {
        let alpn: &[u8] = if args.http2 { b"h2" } else { b"http/1.1" };
        Ok(Self {
            connector: connector(&args.roots, alpn, args.resume)?,
            args: args.clone(),
        })
    }

    pub fn http2(&self) -> bool {
        self.args.http2
    }

    pub fn host(&self) -> &str {
        &self.args.host
    }

    pub fn authorization(&self) -> Option<&str> {
        self.args.authorization.as_deref()
    }

    /// Connects, shakes hands, and holds the other side to the protocol.
    pub async fn dial(&self, host: &str) -> io::Result<Link> {
        let mut stream = TcpStream::connect(self.args.addr).await?;
        stream.set_nodelay(true)?;
        if !self.args.no_connect {
            self.connect(&mut stream, host).await?;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let link = self.connector.connect(name, stream).await?;
        if self.args.http2 && link.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("h2 was not chosen"));
        }
        Ok(link)
    }

    async fn connect(&self, stream: &mut TcpStream, host: &str) -> io::Result<()> {
        let authority = format!("{host}:{}", self.args.port);
        let ask = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 || head.len() > LONGEST_ANSWER {
                return Err(io::Error::other("no answer to CONNECT"));
            }
        }
        if head.get(9..12) != Some(b"200") {
            let line = String::from_utf8_lossy(&head);
            return Err(io::Error::other(format!(
                "CONNECT: {}",
                line.lines().next().unwrap_or_default()
            )));
        }
        Ok(())
    }
}
