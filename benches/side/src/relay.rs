//! The limit: CONNECT answered, TLS ended with one fixed certificate, TLS begun to the named host, and bytes copied.
//! No HTTP is read inside, so whatever a proxy on the same TLS library costs beyond this is what it does.

use crate::tls::{acceptor, connector};
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, TlsConnector};

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    certificate: PathBuf,
    #[arg(long)]
    key: PathBuf,
    /// PEM files to trust
    #[arg(long = "root", required = true)]
    roots: Vec<PathBuf>,
}

struct Relay {
    acceptor: TlsAcceptor,
    http1: TlsConnector,
    http2: TlsConnector,
}

/// A buffer's length while little comes, and while much does.
const SMALL: usize = 2 * 1024;
const LARGE: usize = 256 * 1024;

pub async fn serve(args: Args) -> io::Result<()> {
    let relay = Arc::new(Relay {
        acceptor: acceptor(&args.certificate, &args.key, &[b"h2", b"http/1.1"])?,
        http1: connector(&args.roots, b"http/1.1", true)?,
        http2: connector(&args.roots, b"h2", true)?,
    });
    let listener = TcpListener::bind(args.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            let _ = relay.pass(stream).await;
        });
    }
}

impl Relay {
    async fn pass(&self, mut agent: TcpStream) -> io::Result<()> {
        agent.set_nodelay(true)?;
        let mut head = Vec::with_capacity(512);
        while !head.ends_with(b"\r\n\r\n") {
            if agent.read_buf(&mut head).await? == 0 || head.len() > 8192 {
                return Err(io::Error::other("no CONNECT"));
            }
        }
        let head = String::from_utf8_lossy(&head);
        let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
        let target = target.ok_or_else(|| io::Error::other("no CONNECT"))?.to_owned();
        agent.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        let start = LazyConfigAcceptor::new(Acceptor::default(), agent).await?;
        let mut offers = start.client_hello().alpn().into_iter().flatten();
        let http2 = offers.any(|name| name == b"h2");
        drop(offers);
        let connector = if http2 { &self.http2 } else { &self.http1 };
        let host = target.rsplit_once(':').map_or(&*target, |(host, _)| host).to_owned();
        let upstream = async {
            let stream = TcpStream::connect(&target).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            connector.connect(name, stream).await
        };
        let agent = start.into_stream(Arc::clone(self.acceptor.config()));
        let (agent, upstream) = tokio::try_join!(agent, upstream)?;
        let (agent, upstream) = (tokio::io::split(agent), tokio::io::split(upstream));
        tokio::try_join!(copy(agent.0, upstream.1), copy(upstream.0, agent.1))?;
        Ok(())
    }
}

/// Copies to the end; all that is there is read before it is written. The buffer grows while it is filled, and is
/// given back when nothing comes.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; SMALL];
    loop {
        let (count, ended) = poll_fn(|cx| {
            let mut count = 0;
            loop {
                let mut piece = ReadBuf::new(&mut buffer[count..]);
                match Pin::new(&mut from).poll_read(cx, &mut piece) {
                    Poll::Pending if count > 0 => return Poll::Ready(Ok((count, false))),
                    Poll::Pending => {
                        buffer.truncate(SMALL);
                        buffer.shrink_to(SMALL);
                        return Poll::Pending;
                    }
                    read => ready!(read)?,
                }
                let came = piece.filled().len();
                count += came;
                if came == 0 {
                    return Poll::Ready(io::Result::Ok((count, true)));
                }
                if count == LARGE {
                    return Poll::Ready(Ok((count, false)));
                }
                if count == buffer.len() {
                    buffer.resize((count * 4).min(LARGE), 0);
                }
            }
        })
        .await?;
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        if ended {
            return to.shutdown().await;
        }
    }
}
