#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
use super::*;
use crate::audit::{Outcome, Record};
use crate::base::secret::Secret;
use crate::config::model::{AuditSink, AuditSpec, WhenFull};
use serde_json::Value;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const LONG: Duration = Duration::from_secs(20);

struct Rig {
    admin: Admin,
    audit: Log,
    metrics: Arc<Metrics>,
    tasks: Tasks,
}

impl Rig {
    fn new(token: Option<&str>) -> Self {
        let rig = Self::on(AuditSink::None, WhenFull::Count);
        rig.admin.update(status(), token.map(self::token));
        rig
    }

    fn on(sink: AuditSink, when_full: WhenFull) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let audit = Log::open(&AuditSpec { sink, when_full }).unwrap();
        let tasks = Tasks::new();
        let hosts = vec![Host::parse("keyferry.internal").unwrap()];
        let admin = Admin::new(Arc::clone(&metrics), audit.clone(), hosts, tasks.clone());
        Self {
            admin,
            audit,
            metrics,
            tasks,
        }
    }

    /// Opens a connection, as the listener would.
    fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let admin = self.admin.clone();
        self.tasks.spawn(async move { admin.serve_connection(theirs).await });
        ours
    }

    /// Sends `head` as it is, and gives back the whole reply.
    async fn send(&self, head: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut reply = String::new();
        let read = stream.read_to_string(&mut reply);
        tokio::time::timeout(LONG, read).await.expect("the reply ends").unwrap();
        reply
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:9090\r\nconnection: close\r\n{headers}\r\n"
        ))
        .await
    }
}

fn token(text: &str) -> IsToken {
    let secret = Secret::new(text.as_bytes().to_vec()).unwrap();
    IsToken::new(move |offered| secret.matches(offered))
}

fn status() -> Status {
    Status {
        fingerprint: "f1n9e7".into(),
        rules: vec!["github".into()],
        agents: vec!["ci".into()],
        listen: vec!["127.0.0.1:8080".into()],
    }
}

fn code(reply: &str) -> u16 {
    reply.split(' ').nth(1).and_then(|code| code.parse().ok()).expect(reply)
}

fn body(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").expect(reply).1
}

#[tokio::test]
async fn only_the_right_token_opens_it() {
    let rig = Rig::new(Some("right-token"));
    for path in ["/metrics", "/status", "/audit", "/nothing"] {
        for shown in [
            "",
            "authorization: Bearer wrong-token\r\n",
            "authorization: Bearer right-toke\r\n",
            "authorization: Bearer right-token2\r\n",
            "authorization: Basic right-token\r\n",
            "authorization: Bearer \r\n",
            "authorization: right-token\r\n",
        ] {
            let reply = rig.get(path, shown).await;
            assert_eq!(code(&reply), 401, "{path} with {shown:?}");
            assert!(reply.contains("www-authenticate: Bearer"), "{reply}");
        }
    }
    for shown in [
        "authorization: Bearer right-token\r\n",
        "Authorization: bearer right-token\r\n",
    ] {
        assert_eq!(code(&rig.get("/metrics", shown).await), 200);
    }
}

#[tokio::test]
async fn a_new_token_counts_for_connections_already_open() {
    let rig = Rig::new(Some("old-token"));
    let mut stream = rig.connect();
    let ask = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer old-token\r\n\r\n";
    let mut first = [0; 12];
    stream.write_all(ask).await.unwrap();
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    rig.admin.update(status(), Some(token("new-token")));
    stream.write_all(ask).await.unwrap();
    let mut rest = Vec::new();
    while !rest.ends_with(b"wants `Authorization: Bearer TOKEN`\n") {
        let read = tokio::time::timeout(LONG, stream.read_buf(&mut rest)).await;
        assert_ne!(read.expect("a second reply").unwrap(), 0);
    }
    let rest = String::from_utf8(rest).unwrap();
    assert!(
        rest.contains("HTTP/1.1 401") && !rest.contains("HTTP/1.1 200"),
        "{rest}"
    );
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_turned_away() {
    let rig = Rig::new(None);
    for host in [
        "127.0.0.1",
        "127.0.0.1:9090",
        "[::1]:9090",
        "localhost",
        "LOCALHOST:9090",
        "keyferry.internal:9090",
    ] {
        let reply = rig
            .send(&format!(
                "GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!(code(&reply), 200, "{host}");
    }
    for hosts in [
        "host: evil.example\r\n",
        "host: localhost.evil.example\r\n",
        "host: 127.0.0.1.evil.example:9090\r\n",
        "host: user@localhost\r\n",
        "host: \r\n",
        "host: localhost\r\nhost: evil.example\r\n",
        "",
    ] {
        for path in ["/healthz", "/metrics", "/status"] {
            let reply = rig
                .send(&format!("GET {path} HTTP/1.1\r\n{hosts}connection: close\r\n\r\n"))
                .await;
            assert!(matches!(code(&reply), 400 | 421), "{hosts:?}: {reply}");
        }
    }
    let absolute = "GET http://evil.example/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(code(&rig.send(absolute).await), 421);
}

#[tokio::test]
async fn nothing_but_reading_is_answered() {
    let rig = Rig::new(None);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"] {
        let head =
            format!("{method} /status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let reply = rig.send(&head).await;
        assert_eq!(code(&reply), 405, "{method}");
        assert!(reply.contains("allow: GET"), "{reply}");
    }
    let reply = rig
        .send("CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(code(&reply), 421);
}

#[tokio::test]
async fn health_needs_no_token_and_tells_one_word() {
    let rig = Rig::on(AuditSink::None, WhenFull::Count);
    assert_eq!(code(&rig.get("/healthz", "").await), 200);
    assert_eq!(code(&rig.get("/readyz", "").await), 503, "no configuration yet");
    assert_eq!(
        code(&rig.get("/status", "").await),
        401,
        "nobody knows yet whether a token is due"
    );
    rig.admin.update(status(), Some(token("right-token")));
    let ready = rig.get("/readyz", "").await;
    assert_eq!((code(&ready), body(&ready)), (200, "ready\n"));
}

#[tokio::test]
async fn it_is_not_ready_while_records_cannot_be_written() {
    let sink = AuditSink::File {
        path: Path::new("/dev/full").to_owned(),
        rotate_at: 0,
        keep: 0,
    };
    let rig = Rig::on(sink, WhenFull::Refuse);
    rig.admin.update(status(), None);
    assert_eq!(code(&rig.get("/readyz", "").await), 200);
    rig.audit.write(Record::begin("1"));
    tokio::time::timeout(LONG, async {
        while code(&rig.get("/readyz", "").await) != 503 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("not ready once the write failed");
    assert!(rig.get("/metrics", "").await.contains("\nkeyferry_audit_failing 1\n"));
}

#[tokio::test]
async fn status_and_metrics_tell_what_happened() {
    let rig = Rig::new(None);
    rig.metrics.for_rule("github").ok.inc_by(3);
    let mut denied = Record::begin("1");
    denied.outcome = Outcome::Denied;
    rig.audit.write(denied);
    let reply = rig.get("/status", "").await;
    let told: Value = serde_json::from_str(body(&reply)).unwrap();
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["config"], "f1n9e7");
    assert_eq!(
        told["rules"][0],
        serde_json::json!({"name": "github", "ok": 3, "denied": 0, "failed": 0})
    );
    assert_eq!(told["requests"]["denied"], 1);
    assert_eq!(
        (&told["agents"][0], &told["listen"][0]),
        (&"ci".into(), &"127.0.0.1:8080".into())
    );
    let metrics = rig.get("/metrics", "").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(
        metrics.contains(r#"keyferry_requests_total{outcome="ok",rule="github"} 3"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_tail_is_as_long_as_asked_and_newest_last() {
    let rig = Rig::new(None);
    (0..150).for_each(|number| rig.audit.write(Record::begin(number.to_string())));
    rig.audit.finish(LONG);
    for (query, length) in [("", 100), ("?tail=3", 3), ("?tail=0", 0), ("?tail=99999999", 150)] {
        let reply = rig.get(&format!("/audit{query}"), "").await;
        let lines: Vec<Value> = body(&reply)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), length);
        assert!(lines.last().is_none_or(|line| line["request_id"] == "149"));
    }
    for query in ["?tail=x", "?tail=-1", "?other=1"] {
        assert_eq!(code(&rig.get(&format!("/audit{query}"), "").await), 400);
    }
}

#[tokio::test]
async fn stopping_ends_an_idle_connection() {
    let rig = Rig::new(None);
    let mut idle = rig.connect();
    tokio::task::yield_now().await;
    assert_eq!(rig.tasks.finish(LONG).await, 0);
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
}
