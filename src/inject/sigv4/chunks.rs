//! A body in signed chunks (`aws-chunked`), each signed anew. A signature is put over another of the same length, so
//! that all lengths stay.

use crate::base::body::{Body, BoxError};
use crate::base::budget::{Budget, Share};
use crate::sign::sigv4::{SigningKey, sha256};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body is not framed as it says.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body is not of signed chunks: {0}")]
pub struct Misframed(&'static str);

/// Bytes of one chunk, which is held until it has come whole: its signature stands before it.
const LARGEST_CHUNK: usize = 4 * 1024 * 1024;
const LONGEST_HEAD: usize = 1024;
const LONGEST_TRAILER: usize = 16 * 1024;
const SIGNATURE: &str = "chunk-signature=";
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";
const NO_ROOM: &str = "there is no memory left in which a chunk could be held until it is whole";
const CUT: &str = "it ends before its last chunk";
const UNSIGNED_TRAILER: &str = "its trailer is to have one signature";

pub(super) struct Chunks {
    body: Body,
    key: SigningKey,
    /// The signature before the next.
    before: String,
    with_trailer: bool,
    next: Next,
    /// What came and is not signed yet.
    came: BytesMut,
    memory: Budget,
    /// What the chunk that is to come takes of it.
    room: Option<Share>,
}

#[derive(Debug)]
enum Next {
    Head,
    Chunk {
        head: String,
        size: usize,
    },
    /// What follows the last chunk. That one, of no bytes, waits for it: an end that lacks something never goes out.
    Trailer {
        last: BytesMut,
    },
    End,
}

impl Chunks {
    pub(super) fn new(body: Body, key: SigningKey, signature: String, with_trailer: bool, memory: Budget) -> Self {
        Self {
            body,
            key,
            before: signature,
            with_trailer,
            next: Next::Head,
            came: BytesMut::new(),
            memory,
            room: None,
        }
    }

    /// All that can be signed of what came.
    fn signed(&mut self) -> Result<Bytes, Misframed> {
        let mut out = BytesMut::new();
        while self.step(&mut out)? {}
        Ok(out.freeze())
    }

    /// Takes the next part, if it is whole.
    fn step(&mut self, out: &mut BytesMut) -> Result<bool, Misframed> {
        match std::mem::replace(&mut self.next, Next::Head) {
            Next::Head => {
                let Some(head) = line(&mut self.came, LONGEST_HEAD)? else {
                    return Ok(false);
                };
                let (head, size) = read_head(&head)?;
                self.room = Some(self.memory.take(size as u64).map_err(|_| Misframed(NO_ROOM))?);
                self.next = Next::Chunk { head, size };
            }
            Next::Chunk { head, size: 0 } => {
                let mut last = BytesMut::new();
                self.put(&head, b"", &mut last);
                self.next = Next::Trailer { last };
            }
            Next::Chunk { head, size } => {
                if self.came.len() < size + 2 {
                    self.next = Next::Chunk { head, size };
                    return Ok(false);
                }
                let chunk = self.came.split_to(size);
                if &*self.came.split_to(2) != b"\r\n" {
                    return Err(Misframed("a chunk is longer than it says"));
                }
                self.put(&head, &chunk, out);
                out.extend_from_slice(&chunk);
                out.extend_from_slice(b"\r\n");
                self.room = None;
            }
            Next::Trailer { last } => {
                let Some(trailer) = trailer(&mut self.came)? else {
                    self.next = Next::Trailer { last };
                    return Ok(false);
                };
                out.extend_from_slice(&last);
                self.put_trailer(&trailer, out)?;
                self.next = Next::End;
            }
            Next::End => {
                self.next = Next::End;
                if !self.came.is_empty() {
                    return Err(Misframed("something stands behind its end"));
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the head of a chunk with its new signature.
    fn put(&mut self, head: &str, chunk: &[u8], out: &mut BytesMut) {
        self.before = self.key.sign_chunk(&self.before, &sha256(chunk));
        out.extend_from_slice(format!("{head};{SIGNATURE}{}\r\n", self.before).as_bytes());
    }

    fn put_trailer(&mut self, lines: &[String], out: &mut BytesMut) -> Result<(), Misframed> {
        if !self.with_trailer && !lines.is_empty() {
            return Err(Misframed("it has a trailer that was not announced"));
        }
        let mut fields = Vec::new();
        let mut theirs = None;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Misframed("its trailer holds no field"))?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            if name != TRAILER_SIGNATURE {
                fields.push((name, value));
            } else if theirs.replace(value).is_some() || !is_signature(value) {
                return Err(Misframed(UNSIGNED_TRAILER));
            }
        }
        fields.sort_unstable();
        let text: String = fields.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let ours = self.key.sign_trailer(&self.before, text.as_bytes());
        if theirs.is_some() != self.with_trailer {
            return Err(Misframed(UNSIGNED_TRAILER));
        }
        for line in lines {
            let line = theirs.map_or(line.clone(), |theirs| line.replace(theirs, &ours));
            out.extend_from_slice(format!("{line}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// `SIZE;chunk-signature=…`: the size as it is written, and as it is meant.
fn read_head(line: &str) -> Result<(String, usize), Misframed> {
    let (size, signature) = line
        .split_once(';')
        .and_then(|(size, rest)| Some((size, rest.strip_prefix(SIGNATURE)?)))
        .ok_or(Misframed("a chunk has no signature"))?;
    if !is_signature(signature) {
        return Err(Misframed("a signature is not of 64 digits"));
    }
    // `from_str_radix` would take a sign, too.
    if size.is_empty() || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Misframed("a chunk's size is no number"));
    }
    match usize::from_str_radix(size, 16) {
        Ok(bytes) if bytes <= LARGEST_CHUNK => Ok((size.to_owned(), bytes)),
        _ => Err(Misframed("a chunk has more than 4 MiB")),
    }
}

fn is_signature(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Takes the next line, without its end.
fn line(came: &mut BytesMut, longest: usize) -> Result<Option<String>, Misframed> {
    let Some(end) = memchr::memmem::find(came, b"\r\n") else {
        return match came.len() > longest {
            true => Err(Misframed("a line is too long")),
            false => Ok(None),
        };
    };
    if end > longest {
        return Err(Misframed("a line is too long"));
    }
    let line = came.split_to(end + 2);
    let text = line.get(..end).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| Misframed("a line is no text"))?;
    Ok(Some(text.to_owned()))
}

/// Takes the lines behind the last chunk, once the empty one that ends them is there.
fn trailer(came: &mut BytesMut) -> Result<Option<Vec<String>>, Misframed> {
    let whole = came.starts_with(b"\r\n") || memchr::memmem::find(came, b"\r\n\r\n").is_some();
    if !whole {
        return match came.len() > LONGEST_TRAILER {
            true => Err(Misframed("its trailer is too long")),
            false => Ok(None),
        };
    }
    let mut lines = Vec::new();
    while let Some(line) = line(came, LONGEST_TRAILER)?.filter(|line| !line.is_empty()) {
        lines.push(line);
    }
    Ok(Some(lines))
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        this.came.extend_from_slice(&piece);
                        let signed = this.signed()?;
                        if !signed.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(signed))));
                        }
                    }
                    Err(trailers) if matches!(this.next, Next::End) => return Poll::Ready(Some(Ok(trailers))),
                    Err(_) => return Poll::Ready(Some(Err(Misframed(CUT).into()))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if matches!(this.next, Next::End) => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(Misframed(CUT).into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        // What is held back comes yet.
        let mut hint = SizeHint::new();
        hint.set_lower(self.body.size_hint().lower());
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::secret::Secret;
    use crate::sign::sigv4::Scope;
    use http_body_util::BodyExt;

    fn chunks(memory: &Budget) -> Chunks {
        let scope = Scope {
            stamp: "20260101T000000Z".to_owned(),
            region: "eu-west-1".to_owned(),
            service: "s3".to_owned(),
        };
        let key = SigningKey::new(&Secret::new(b"key".to_vec()).unwrap(), scope);
        let signature = "0".repeat(64);
        let text = format!("a;chunk-signature={signature}\r\n0123456789\r\n0;chunk-signature={signature}\r\n\r\n");
        Chunks::new(Body::full(text), key, signature, false, memory.clone())
    }

    #[tokio::test]
    async fn a_chunk_is_held_while_there_is_memory_for_it_and_gives_it_back() {
        let refused = chunks(&Budget::new(9)).collect().await.unwrap_err();
        assert!(refused.to_string().contains("memory"), "{refused}");
        let memory = Budget::new(10);
        let mut body = chunks(&memory);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(memory.take(10).is_ok(), "it was not given back");
    }
}
