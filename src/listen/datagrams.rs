//! A socket for datagrams, each answered by at most one: from the address that it was sent to, which on a socket for every
//! address of the machine, and behind a firewall that redirects, is not the one that the kernel would choose.

use super::bound::{Error, explain};
use crate::base::tasks::Tasks;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

/// A bound socket for datagrams.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// What the kernel hands over at one time: one datagram, or several of the same sender's.
const MOST_BYTES: usize = 65_535;
/// Answers in the making at one time; what comes beyond is dropped, as on any network.
const MOST_ANSWERS: usize = 256;
/// After a failure that only time can mend.
const PAUSE: Duration = Duration::from_millis(250);

/// One that the process after this one may bind too, before this one lets go of it; nobody else's may.
fn open(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Sends an answer, if there is one and the socket is still there.
fn reply(socket: Weak<Datagrams>, asked: &RecvMeta, answer: Option<Vec<u8>>) {
    if let (Some(answer), Some(socket)) = (answer, socket.upgrade()) {
        socket.send(&answer, asked);
    }
}

impl Datagrams {
    /// Binds the address.
    ///
    /// # Errors
    /// When it is taken or the kernel refuses.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let failed = |error| explain(format!("{address} over UDP"), error);
        let socket = open(address).map_err(failed)?;
        // It is set not to block, too.
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).map_err(failed)?;
        let socket = UdpSocket::from_std(socket).map_err(failed)?;
        Ok(Self { socket, state })
    }

    /// Takes datagrams until the tasks are told to stop, and sends back what `each` makes of one.
    pub async fn serve<F>(self, tasks: Tasks, each: impl Fn(Vec<u8>, SocketAddr) -> F)
    where
        F: Future<Output = Option<Vec<u8>>> + Send + 'static,
    {
        // Closed when this returns, and no answer in the making holds it open: the kernel would go on to give it
        // questions that the process after this one could answer.
        let (shared, slots) = (Arc::new(self), Arc::new(Semaphore::new(MOST_ANSWERS)));
        let mut bytes = vec![0; MOST_BYTES];
        loop {
            let received = tokio::select! {
                () = tasks.stopping() => return,
                received = shared.receive(&mut bytes) => received,
            };
            let Ok(meta) = received else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let came = bytes.get(..meta.len).unwrap_or_default();
            for datagram in came.chunks(meta.stride.max(1)) {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    break;
                };
                let (answer, socket) = (each(datagram.to_vec(), meta.addr), Arc::downgrade(&shared));
                tasks.spawn(async move {
                    let _slot = slot;
                    reply(socket, &meta, answer.await);
                });
            }
        }
    }

    async fn receive(&self, bytes: &mut [u8]) -> io::Result<RecvMeta> {
        let mut meta = [RecvMeta::default()];
        let read = || {
            let mut buffers = [IoSliceMut::new(bytes)];
            self.state.recv(UdpSockRef::from(&self.socket), &mut buffers, &mut meta)
        };
        self.socket.async_io(Interest::READABLE, read).await?;
        let [meta] = meta;
        Ok(meta)
    }

    /// Sends an answer to whoever `asked`. What the network does not take now is lost, and asked for again.
    fn send(&self, answer: &[u8], asked: &RecvMeta) {
        let transmit = Transmit {
            destination: asked.addr,
            ecn: None,
            contents: answer,
            segment_size: None,
            src_ip: asked.dst_ip,
        };
        let write = || self.state.try_send(UdpSockRef::from(&self.socket), &transmit);
        if let Err(error) = self.socket.try_io(Interest::WRITABLE, write) {
            tracing::debug!("an answer to {} was not sent: {error}", asked.addr);
        }
    }
}
