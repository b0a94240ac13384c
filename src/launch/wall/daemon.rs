//! Docker's daemon, asked over its socket: what its client would ask, without the client's own start, which takes longer
//! than all else that Keyferry does before a container runs.
//!
//! An answer that is not plainly the one asked for is none: then the client is asked, which also has the words for what is
//! wrong.

use super::engine::{Caller, PATIENCE};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The most that is read of an answer, in bytes; what is asked for is a few thousand.
const MOST: u64 = 4 << 20;
/// The header fields of an answer.
const FIELDS: usize = 64;

/// Where Docker's daemon listens.
#[derive(Debug)]
pub struct Daemon(PathBuf);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClientConfig {
    #[serde(rename = "currentContext")]
    context: Option<String>,
}

impl Daemon {
    /// The socket that Docker's client would use for this caller; none where that is no socket on this machine, or the
    /// client has a context, in whose files it would have to be looked up.
    pub fn of(caller: &Caller) -> Option<Self> {
        let variable = |wanted: &str| {
            let found = caller.iter().find(|(name, _)| name == wanted);
            found
                .map(|(_, value)| value.as_os_str())
                .filter(|value| !value.is_empty())
        };
        if let Some(host) = variable("DOCKER_HOST") {
            return host.to_str()?.strip_prefix("unix://").map(|path| Self(path.into()));
        }
        if variable("DOCKER_CONTEXT").is_some_and(|context| context != "default") {
            return None;
        }
        let config = variable("DOCKER_CONFIG").map(PathBuf::from);
        let config = config.or_else(|| Some(Path::new(variable("HOME")?).join(".docker")));
        let text = config.and_then(|dir| fs::read(dir.join("config.json")).ok());
        let config: ClientConfig = match text {
            Some(text) => serde_json::from_slice(&text).ok()?,
            None => ClientConfig::default(),
        };
        let own = config
            .context
            .is_none_or(|context| context.is_empty() || context == "default");
        own.then(|| Self("/var/run/docker.sock".into()))
    }

    /// What `path` of its API answers, if that is a 200 with such a document.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let plain = |b: u8| b.is_ascii_graphic() && !b"?#%".contains(&b);
        let (plain_part, query) = path.split_once('?').unwrap_or((path, ""));
        if !plain_part.bytes().all(plain) || !query.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let mut stream = UnixStream::connect(&self.0).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        // With HTTP/1.0 the answer ends where the connection does (RFC 9112, section 6.3).
        let asked = format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n");
        stream.write_all(asked.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.take(MOST).read_to_end(&mut answer).ok()?;
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(body) = head.parse(&answer).ok()? else {
            return None;
        };
        let body = answer.get(body..).filter(|_| head.code == Some(200))?;
        serde_json::from_slice(body).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use std::os::unix::net::UnixListener;

    fn caller(vars: &[(&str, &str)]) -> Caller {
        vars.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn socket(vars: &[(&str, &str)]) -> Option<PathBuf> {
        Daemon::of(&caller(vars)).map(|Daemon(path)| path)
    }

    #[test]
    fn the_socket_is_the_one_that_the_client_would_use_or_none() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().to_str().unwrap();
        assert_eq!(socket(&[("HOME", at)]).unwrap(), PathBuf::from("/var/run/docker.sock"));
        assert_eq!(
            socket(&[("DOCKER_HOST", "unix:///x/d.sock")]).unwrap(),
            PathBuf::from("/x/d.sock")
        );
        assert_eq!(socket(&[("DOCKER_HOST", "tcp://10.0.0.1:2375"), ("HOME", at)]), None);
        assert_eq!(socket(&[("DOCKER_CONTEXT", "colima"), ("HOME", at)]), None);
        fs::create_dir(home.path().join(".docker")).unwrap();
        let config = home.path().join(".docker/config.json");
        fs::write(&config, r#"{"currentContext": "rootless", "auths": {}}"#).unwrap();
        assert_eq!(socket(&[("HOME", at)]), None);
        fs::write(&config, r#"{"auths": {}}"#).unwrap();
        assert!(socket(&[("HOME", at)]).is_some());
        fs::write(&config, "{").unwrap();
        assert_eq!(socket(&[("HOME", at)]), None);
    }

    #[test]
    fn only_a_200_with_the_document_is_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let answers = [
            "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\": 1}",
            "HTTP/1.0 404 Not Found\r\n\r\n{\"a\": 1}",
            "HTTP/1.0 200 OK\r\n\r\n{\"a\": ",
            "nonsense",
        ];
        let serving = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 64];
                let n = stream.read(&mut asked).unwrap();
                assert!(asked[..n].starts_with(b"GET /images/a:b/json HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let daemon = Daemon(path);
        let got = answers.map(|_| daemon.get::<serde_json::Value>("/images/a:b/json"));
        serving.join().unwrap();
        assert_eq!(got, [Some(serde_json::json!({"a": 1})), None, None, None]);
        assert_eq!(daemon.get::<serde_json::Value>("/images/a b/json"), None);
        assert_eq!(daemon.get::<serde_json::Value>("/images/a%2fb/json"), None);
    }
}
