//! One exchange on a stream of an HTTP/2 connection: its request out, the head of its response in.

use crate::base::body::{Body, BoxError};
use crate::base::received::{Received, Streams};
use crate::base::tasks::Tasks;
use crate::base::wire::Wire;
use bytes::{Buf, Bytes};
use futures_util::FutureExt as _;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body as _;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A response and, where an extended CONNECT was agreed to (RFC 8441 §5), the stream that it opened.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<Body>,
    pub(super) opened: Option<Wire>,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Failed {
    /// The connection took no more streams: nothing was sent.
    Unsent(Box<Request<Body>>, h2::Error),
    /// The stream or the connection broke.
    Broken(h2::Error),
    /// The request's own body failed.
    RequestBody(BoxError),
}

/// A stream that was opened for a request. Dropped before the response has come, it is reset.
pub(super) struct Begun {
    response: ResponseFuture,
    method: Method,
    after: After,
}

/// What there is on a stream after the request's head.
enum After {
    Nothing,
    Body(Upload),
    /// Whatever both sides say, once an extended CONNECT is agreed to.
    Anything(SendStream<Bytes>),
}

type Upload = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

impl Begun {
    /// Opens a stream for the request.
    ///
    /// # Errors
    /// When the connection takes none any more, or not this request.
    pub(super) fn open(streams: &SendRequest<Bytes>, mut request: Box<Request<Body>>) -> Result<Self, Failed> {
        let mut streams = streams.clone();
        // A new handle has no stream before this one to wait for.
        if let Poll::Ready(Err(error)) = streams.poll_ready(&mut Context::from_waker(Waker::noop())) {
            return Err(Failed::Unsent(request, error));
        }
        let connects = request.method() == Method::CONNECT;
        let ends = request.body().is_end_stream() && !connects;
        state_length(&mut request);
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let opened = streams.send_request(Request::from_parts(parts, ()), ends);
        let (response, outgoing) = opened.map_err(Failed::Broken)?;
        let after = match (connects, ends) {
            (true, _) => After::Anything(outgoing),
            (false, true) => After::Nothing,
            (false, false) => After::Body(Box::pin(upload(body, outgoing))),
        };
        Ok(Self {
            response,
            method,
            after,
        })
    }

    /// Waits for the head of the response while the body goes out; what is left of that then goes out as a task of its own.
    /// The response's body is one `of` the connection's.
    ///
    /// # Errors
    /// When the stream breaks, or the body fails.
    pub(super) async fn head(self, of: &Arc<Streams>) -> Result<Answered, Failed> {
        let Self {
            response,
            method,
            after,
        } = self;
        let response = match after {
            After::Body(upload) => beside(response, upload, &of.tasks).await?,
            After::Nothing => response.await.map_err(Failed::Broken)?,
            After::Anything(outgoing) => {
                let response = response.await.map_err(Failed::Broken)?;
                return Ok(connected(response, outgoing, of));
            }
        };
        let (parts, incoming) = response.into_parts();
        let body = Received::new(incoming, &parts, &method, of).into();
        Ok(Answered {
            response: Response::from_parts(parts, body),
            opened: None,
        })
    }
}

/// A length that is known is told (RFC 9110 §8.6); that there is none only where one could be.
fn state_length(request: &mut Request<Body>) {
    let Some(length) = request.body().size_hint().exact() else {
        return;
    };
    let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::CONNECT];
    if length > 0 || !bodiless.contains(request.method()) {
        let stated = request.headers_mut().entry(CONTENT_LENGTH);
        stated.or_insert_with(|| HeaderValue::from(length));
    }
}

/// Waits for the response while the body goes out.
async fn beside(
    mut response: ResponseFuture,
    mut upload: Upload,
    tasks: &Tasks,
) -> Result<Response<RecvStream>, Failed> {
    let mut is_out = false;
    let response = poll_fn(|cx| {
        if !is_out && let Poll::Ready(uploaded) = upload.as_mut().poll(cx) {
            is_out = true;
            if let Err(failure) = uploaded {
                return Poll::Ready(Err(Failed::RequestBody(failure)));
            }
        }
        response.poll_unpin(cx).map_err(Failed::Broken)
    })
    .await?;
    if !is_out {
        // It ends with the connection, or when the other side resets the stream.
        tasks.spawn_under(upload.map(drop));
    }
    Ok(response)
}

/// Sends the body, as fast as the other side takes it. That it stopped taking is no failure of the body's: the response
/// tells why.
async fn upload(mut body: Body, mut stream: SendStream<Bytes>) -> Result<(), BoxError> {
    loop {
        let next = poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            Pin::new(&mut body).poll_frame(cx).map(Some)
        });
        let Some(next) = next.await else { return Ok(()) };
        let sent = match next {
            None => stream.send_data(Bytes::new(), true),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    let ends = body.is_end_stream();
                    if !piece.is_empty() && !room(&mut stream).await {
                        return Ok(());
                    }
                    let sent = stream.send_data(piece, ends);
                    if sent.is_ok() && !ends {
                        continue;
                    }
                    sent
                }
                Err(frame) => {
                    stream.reserve_capacity(0);
                    stream.send_trailers(frame.into_trailers().unwrap_or_default())
                }
            },
            Some(Err(failure)) => {
                stream.send_reset(Reason::CANCEL);
                return Err(failure);
            }
        };
        // The other side has reset the stream in the meantime.
        drop(sent);
        return Ok(());
    }
}

/// Waits until a byte may be sent; `false` when none ever will be. Only one is asked for, whatever is to be sent: room that
/// a stream holds and does not use is missing to others (RFC 9113 §5.2.1), and `h2` asks for the rest itself.
async fn room(stream: &mut SendStream<Bytes>) -> bool {
    stream.reserve_capacity(1);
    poll_fn(|cx| poll_room(stream, cx)).await
}

fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<bool> {
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(false);
    }
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(false),
        }
    }
    Poll::Ready(true)
}

/// The answer to an extended CONNECT. Anything but a 2xx is a response like any other (RFC 9110 §9.3.6).
fn connected(response: Response<RecvStream>, outgoing: SendStream<Bytes>, of: &Arc<Streams>) -> Answered {
    let (parts, incoming) = response.into_parts();
    let (body, opened) = if parts.status.is_success() {
        let duplex = Duplex {
            incoming,
            ahead: Bytes::new(),
            outgoing,
        };
        (Body::Empty, Some(Wire::new(duplex)))
    } else {
        (Received::new(incoming, &parts, &Method::CONNECT, of).into(), None)
    };
    Answered {
        response: Response::from_parts(parts, body),
        opened,
    }
}

/// A stream as bytes both ways.
struct Duplex {
    incoming: RecvStream,
    /// What came and was not taken yet.
    ahead: Bytes,
    outgoing: SendStream<Bytes>,
}

/// Bytes of one write: a DATA frame's usual most (RFC 9113 §4.2).
const PIECE: usize = 16 * 1024;

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.ahead.is_empty() {
            match ready!(this.incoming.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // What cannot be given back belongs to a stream that has ended.
                    let _ = this.incoming.flow_control().release_capacity(bytes.len());
                    this.ahead = bytes;
                }
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.ahead.len().min(buf.remaining());
        buf.put_slice(this.ahead.get(..count).unwrap_or_default());
        this.ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outgoing = &mut self.outgoing;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        outgoing.reserve_capacity(bytes.len().min(PIECE));
        if !ready!(poll_room(outgoing, cx)) {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let count = outgoing.capacity().min(bytes.len()).min(PIECE);
        let piece = Bytes::copy_from_slice(bytes.get(..count).unwrap_or_default());
        outgoing.send_data(piece, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.outgoing.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(|_| ErrorKind::BrokenPipe.into()))
    }
}
