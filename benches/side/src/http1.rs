//! As little of an HTTP/1.1 client as measures others and not itself.

use crate::way::{Link, Way};
use memchr::memmem;
use std::fmt::Write as _;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A kept connection.
pub struct Http1 {
    pub link: Link,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
}

/// What came back.
pub struct Reply {
    pub status: u16,
    /// Whether the other side keeps the connection.
    pub kept: bool,
    pub length: u64,
}

/// How a body says where it ends.
enum Framing {
    Length(u64),
    Chunks,
    Close,
}

/// A head to send, ready for every time.
pub fn request(way: &Way, host: &str, method: &str, path: &str, more: &str) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: side/1\r\nAccept: */*\r\n{more}");
    if let Some(value) = way.authorization() {
        // Writing to a string cannot fail.
        let _ = write!(head, "Authorization: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

impl Http1 {
    /// A connection whose answers are read through `buffer` bytes.
    pub async fn open(way: &Way, host: &str, buffer: usize) -> io::Result<Self> {
        Ok(Self {
            link: way.dial(host).await?,
            buffer: vec![0; buffer].into(),
            from: 0,
            to: 0,
        })
    }

    /// Sends `request` and reads the whole answer, each piece of its body shown to `seen`.
    pub async fn ask(&mut self, request: &[u8], seen: impl FnMut(&[u8])) -> io::Result<Reply> {
        self.link.write_all(request).await?;
        self.link.flush().await?;
        self.answer(seen).await
    }

    /// Reads one answer.
    pub async fn answer(&mut self, mut seen: impl FnMut(&[u8])) -> io::Result<Reply> {
        let (status, framing, mut kept) = loop {
            let end = self.find(b"\r\n\r\n").await?;
            let head = read_head(&self.buffer[self.from..end])?;
            self.from = end;
            if head.0 >= 200 {
                break head;
            }
        };
        let length = match framing {
            Framing::Length(length) => self.take(length, &mut seen).await?,
            Framing::Chunks => self.chunks(&mut seen).await?,
            Framing::Close => {
                kept = false;
                let mut length = 0;
                while self.from < self.to || self.fill().await? > 0 {
                    length += self.take((self.to - self.from) as u64, &mut seen).await?;
                }
                length
            }
        };
        Ok(Reply { status, kept, length })
    }

    async fn chunks(&mut self, seen: &mut impl FnMut(&[u8])) -> io::Result<u64> {
        let mut length = 0;
        loop {
            let end = self.find(b"\r\n").await?;
            let line = std::str::from_utf8(&self.buffer[self.from..end - 2]).unwrap_or_default();
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            self.from = end;
            length += self.take(size, seen).await?;
            let end = self.find(b"\r\n").await?;
            self.from = end;
            if size == 0 {
                return Ok(length);
            }
        }
    }

    /// Where `mark` ends in the buffer, reading until it is there.
    async fn find(&mut self, mark: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(at) = memmem::find(&self.buffer[self.from..self.to], mark) {
                return Ok(self.from + at + mark.len());
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn take(&mut self, length: u64, seen: &mut impl FnMut(&[u8])) -> io::Result<u64> {
        let mut left = length;
        while left > 0 {
            if self.from == self.to && self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let piece = left.min((self.to - self.from) as u64);
            let until = self.from + piece as usize;
            seen(&self.buffer[self.from..until]);
            self.from = until;
            left -= piece;
        }
        Ok(length)
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.buffer.len() {
            if self.from == 0 {
                return Err(io::Error::other("the head is too long"));
            }
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        let count = self.link.read(&mut self.buffer[self.to..]).await?;
        self.to += count;
        Ok(count)
    }
}

fn read_head(head: &[u8]) -> io::Result<(u16, Framing, bool)> {
    let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    let status: u16 = status
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let mut framing = if matches!(status, 204 | 304) {
        Framing::Length(0)
    } else {
        Framing::Close
    };
    let mut kept = !head.starts_with(b"HTTP/1.0");
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value).unwrap_or_default();
            framing = Framing::Length(value.parse().map_err(io::Error::other)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing = Framing::Chunks;
        } else if name.eq_ignore_ascii_case(b"connection") {
            kept = !value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok((status, framing, kept))
}
