//! CONNECT, as a client (RFC 9110 §9.3.6).

use super::{Fault, Login};
use crate::base::host::Target;
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Bytes of a parent's reply, interim ones included.
const LONGEST_HEAD: usize = 8 * 1024;
/// Fields in it.
const MOST_HEADERS: usize = 64;

/// Asks for `target`. Returns what the other side sent right behind the reply's head: a server that
/// speaks first may have done so already.
pub(super) async fn ask<S>(stream: &mut S, target: &Target, login: Option<&Login>) -> Result<Bytes, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&request(target, login)).await?;
    stream.flush().await?;
    let mut read = BytesMut::new();
    let mut left = LONGEST_HEAD;
    loop {
        let before = read.len();
        read.reserve(1024);
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let came = read.len() - before;
        while let Some((status, length)) = head(&read)? {
            let rest = read.split_off(length);
            match status {
                // The length that a 2xx may state says nothing (RFC 9110 §9.3.6).
                200..=299 => return Ok(rest.freeze()),
                101 => return Err(Fault::Garbage("it switched protocols unasked")),
                100..=199 => read = rest,
                // tinyproxy has 401 for a login that is wrong.
                401 | 407 => return Err(Fault::Unknown),
                500..=599 => return Err(Fault::NoWay(format!("status {status}"))),
                _ => return Err(Fault::Refused(format!("status {status}"))),
            }
        }
        left = left
            .checked_sub(came)
            .ok_or(Fault::Garbage("its reply has no end within 8 KiB"))?;
    }
}

/// In one piece, and wiped after it was sent.
fn request(target: &Target, login: Option<&Login>) -> Zeroizing<Vec<u8>> {
    let basic = login.map(Login::basic);
    let basic = basic.as_ref().map_or("", |basic| basic.as_str());
    let parts: [&[u8]; 3] = match basic {
        "" => [b"", b"", b"\r\n"],
        basic => [b"Proxy-Authorization: Basic ", basic.as_bytes(), b"\r\n\r\n"],
    };
    let line = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    Zeroizing::new([&[line.as_bytes()], &parts[..]].concat().concat())
}

/// The status and the length of a whole head, if it is whole.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize)>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(response.code.map(|status| (status, length))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Fault::Garbage("its reply is no HTTP/1")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What comes of these pieces as the parent's reply.
    async fn answered(pieces: &[&[u8]]) -> Result<Bytes, Fault> {
        let mut parent = played(pieces);
        ask(&mut parent, &Target::parse("a.test:443", None).unwrap(), None).await
    }

    fn played(pieces: &[&[u8]]) -> impl AsyncRead + AsyncWrite + Unpin {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        crate::base::tasks::Tasks::new().spawn(async move {
            for piece in pieces {
                if theirs.write_all(&piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let mut sink = [0; 512];
            while theirs.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        });
        ours
    }

    #[tokio::test]
    async fn what_comes_right_behind_the_reply_is_not_lost() {
        let whole = b"HTTP/1.1 200 Connection established\r\nContent-Length: 9\r\n\r\nSSH-2.0-x";
        assert_eq!(&answered(&[whole]).await.unwrap()[..], b"SSH-2.0-x");
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        let early = answered(&bytes).await.unwrap();
        assert!(b"SSH-2.0-x".starts_with(&early), "{early:?}");
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest";
        assert_eq!(&answered(&[interim]).await.unwrap()[..], b"rest");
    }

    #[tokio::test]
    async fn a_reply_that_is_no_way_is_told_by_its_kind() {
        let long = [&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'a'; 20_000]].concat();
        let interims = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000);
        for (reply, wanted) in [
            (
                &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
                "does not accept",
            ),
            (b"HTTP/1.0 403 Forbidden\r\nx: y\r\n\r\n<html>", "refuses: status 403"),
            (
                b"HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\n\r\n",
                "refuses: status 302",
            ),
            (
                b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
                "no connection to the target: status 503",
            ),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP/1"),
            (b"\x05\x00", "no HTTP/1"),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "unasked"),
            (&long, "no end"),
            (&interims, "no end"),
        ] {
            let fault = answered(&[reply]).await.unwrap_err().to_string();
            assert!(fault.contains(wanted), "{fault}");
        }
    }
}
