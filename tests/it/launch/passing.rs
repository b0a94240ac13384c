//! A proxy that lets everything pass to one origin, and remembers what it was asked: enough to see
//! how a client uses a proxy, without ours in between.

use crate::rig::root::{Root, Validity};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The proxy, its origin behind it.
pub struct Passing {
    pub address: SocketAddr,
    pub root: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Passing {
    /// Starts both. Names below `denied.test` are refused as Keyferry would.
    pub fn start() -> Self {
        let root = Root::new();
        let tls = root.server(&["api.test", "other.test"], Validity::Now, &["http/1.1"]);
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        let behind = origin.local_addr().unwrap();
        accept(origin, move |stream| {
            let session = rustls::ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
            answer(BufReader::new(rustls::StreamOwned::new(session, stream)))
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        accept(listener, move |stream| proxy(stream, behind, &seen));
        Self {
            address,
            root: root.pem(),
            asked,
        }
    }

    /// What it was asked, each with the credential that came along: `CONNECT api.test:443 Basic …`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn accept(listener: TcpListener, each: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) {
    let each = Arc::new(each);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || drop(each(stream)));
        }
    });
}

fn head(from: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for line in from.lines() {
        let line = line?;
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line);
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn field<'a>(head: &'a [String], name: &str) -> &'a str {
    let found = head
        .iter()
        .filter_map(|line| line.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value)
}

/// Answers every request with its line, until the client is done.
fn answer<S: Read + Write>(mut stream: BufReader<S>) -> io::Result<()> {
    loop {
        let head = head(&mut stream)?;
        let length = field(&head, "content-length").parse().unwrap_or(0);
        io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
        let body = format!("{} {length}", head[0]);
        write!(
            stream.get_mut(),
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        stream.get_mut().flush()?;
    }
}

fn proxy(stream: TcpStream, behind: SocketAddr, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut client = BufReader::new(stream.try_clone()?);
    let head = head(&mut client)?;
    let line = head[0].trim_end_matches(" HTTP/1.1");
    let asks = format!("{line} {}", field(&head, "proxy-authorization"));
    asked.lock().unwrap().push(asks.trim_end().to_owned());
    if !line.starts_with("CONNECT ") {
        let replayed = format!("{}\r\n\r\n", head.join("\r\n"));
        let whole = io::Cursor::new(replayed).chain(client);
        return answer(BufReader::new(Both(whole, stream)));
    }
    let mut client_write = stream.try_clone()?;
    if line.contains("denied.test") {
        let body = r#"{"error":"denied_by_policy","message":"no rule allows it","hint":"ask for one"}"#;
        return write!(
            client_write,
            "HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let mut upstream = TcpStream::connect(behind)?;
    client_write.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let mut upstream_read = upstream.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut upstream_read, &mut client_write);
        client_write.shutdown(Shutdown::Write)
    });
    io::copy(&mut client, &mut upstream)?;
    upstream.shutdown(Shutdown::Write)
}

/// Reads from one, writes to the other.
struct Both<R>(R, TcpStream);

impl<R: Read> Read for Both<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl<R> Write for Both<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}
