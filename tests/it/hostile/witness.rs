//! An origin that keeps every byte and reads it as strictly as the standard has it: what is not exactly
//! one well-formed request after another is on record as broken.

use crate::rig::root::{Root, Validity};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A complete request, as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Request {
    /// The values of a field, in whatever case it was written.
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name)
    }
}

fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let named = fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<Vec<u8>>,
    requests: Vec<Request>,
    broken: Vec<String>,
}

/// What the witness says to a request.
pub type Answer = Arc<dyn Fn(&Request) -> Vec<u8> + Send + Sync>;

/// A running witness.
#[derive(Clone)]
pub struct Witness {
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

impl Witness {
    /// Answers every request with two bytes.
    pub async fn start(root: &Root, name: &str) -> Self {
        Self::saying(root, name, |_| {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
        })
        .await
    }

    /// Answers over TLS with the bytes that `answer` makes; what ends in nothing closes the connection.
    pub async fn saying(root: &Root, name: &str, answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let tls = TlsAcceptor::from(root.server(&[name], Validity::Now, &["http/1.1"]));
        let (witness, listener) = Self::bind().await;
        let (accepting, answer): (_, Answer) = (witness.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, answer, witness) = (tls.clone(), answer.clone(), accepting.clone());
                tokio::spawn(async move {
                    let Ok(io) = tls.accept(tcp).await else { return };
                    witness.serve(io, answer).await;
                });
            }
        });
        witness
    }

    /// Answers every request with two bytes, in the clear.
    pub async fn plain() -> Self {
        let (witness, listener) = Self::bind().await;
        let answer: Answer = Arc::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
        let accepting = witness.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(tcp, answer.clone()));
            }
        });
        witness
    }

    async fn bind() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let witness = Self {
            address: listener.local_addr().unwrap(),
            log: Arc::default(),
        };
        (witness, listener)
    }

    async fn serve<I: AsyncRead + AsyncWrite + Unpin>(self, mut io: I, answer: Answer) {
        let at = {
            let mut log = self.log.lock().unwrap();
            log.bytes.push(Vec::new());
            log.bytes.len() - 1
        };
        let mut buffer = Vec::new();
        loop {
            match read(&buffer) {
                Ok(Some((request, used))) => {
                    buffer.drain(..used);
                    let said = answer(&request);
                    self.log.lock().unwrap().requests.push(request);
                    if said.is_empty() || io.write_all(&said).await.is_err() || io.flush().await.is_err() {
                        return;
                    }
                }
                Ok(None) => {
                    let mut piece = [0; 16 * 1024];
                    let Ok(count @ 1..) = io.read(&mut piece).await else {
                        return;
                    };
                    buffer.extend_from_slice(&piece[..count]);
                    self.log.lock().unwrap().bytes[at].extend_from_slice(&piece[..count]);
                }
                Err(why) => {
                    let text = String::from_utf8_lossy(&buffer).into_owned();
                    self.log.lock().unwrap().broken.push(format!("{why} in {text:?}"));
                    return;
                }
            }
        }
    }

    /// Every complete request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().requests.clone()
    }

    /// What could not be read as requests.
    pub fn broken(&self) -> Vec<String> {
        self.log.lock().unwrap().broken.clone()
    }

    /// All bytes, one connection after the other.
    pub fn bytes(&self) -> Vec<u8> {
        self.log.lock().unwrap().bytes.concat()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.log.lock().unwrap().bytes.len()
    }
}

type Read<T> = Result<Option<T>, &'static str>;

/// Reads one request off the front; `None` when it is not complete.
fn read(bytes: &[u8]) -> Read<(Request, usize)> {
    let Some((line, mut at)) = line(bytes, 0)? else {
        return Ok(None);
    };
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err("no request line");
    };
    if !is_token(method) || target.is_empty() || !target.bytes().all(|b| b > b' ' && b != 0x7f) {
        return Err("no method and target");
    }
    let Some((fields, end)) = section(bytes, at)? else {
        return Ok(None);
    };
    at = end;
    if values(&fields, "host").len() != 1 {
        return Err("not one host");
    }
    let (lengths, codings) = (values(&fields, "content-length"), values(&fields, "transfer-encoding"));
    let (body, trailers) = match (&lengths[..], &codings[..]) {
        ([], []) => (Vec::new(), Vec::new()),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "no length")?;
            let Some(body) = bytes.get(at..at + length) else {
                return Ok(None);
            };
            at += length;
            (body.to_vec(), Vec::new())
        }
        ([], ["chunked"]) => {
            let Some((body, trailers, end)) = chunks(bytes, at)? else {
                return Ok(None);
            };
            at = end;
            (body, trailers)
        }
        _ => return Err("no one framing"),
    };
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        fields,
        body,
        trailers,
    };
    Ok(Some((request, at)))
}

type Fields = Vec<(String, String)>;

fn chunks(bytes: &[u8], mut at: usize) -> Read<(Vec<u8>, Fields, usize)> {
    let mut body = Vec::new();
    loop {
        let Some((size, after)) = line(bytes, at)? else {
            return Ok(None);
        };
        if size.is_empty() || size.len() > 8 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("no chunk size");
        }
        let size = usize::from_str_radix(&size, 16).map_err(|_| "no chunk size")?;
        if size == 0 {
            let section = section(bytes, after)?;
            return Ok(section.map(|(trailers, end)| (body, trailers, end)));
        }
        let Some(data) = bytes.get(after..after + size + 2) else {
            return Ok(None);
        };
        if !data.ends_with(b"\r\n") {
            return Err("no end of a chunk");
        }
        body.extend_from_slice(&data[..size]);
        at = after + size + 2;
    }
}

/// Field lines up to and with the empty one.
fn section(bytes: &[u8], mut at: usize) -> Read<(Fields, usize)> {
    let mut fields = Vec::new();
    loop {
        let Some((line, after)) = line(bytes, at)? else {
            return Ok(None);
        };
        at = after;
        if line.is_empty() {
            return Ok(Some((fields, at)));
        }
        let (name, value) = line.split_once(':').ok_or("a field without a colon")?;
        if !is_token(name) {
            return Err("a field name that is none");
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// One line that ends in CR LF and has no other control in it.
fn line(bytes: &[u8], at: usize) -> Read<(String, usize)> {
    let rest = &bytes[at..];
    let end = rest.windows(2).position(|two| two == b"\r\n");
    let seen = &rest[..end.unwrap_or(rest.len().saturating_sub(1))];
    if seen.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) {
        return Err("a control in a line");
    }
    Ok(end.map(|end| (String::from_utf8_lossy(seen).into_owned(), at + end + 2)))
}

fn is_token(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(tchar)
}
