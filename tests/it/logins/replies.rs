//! Whatever a token endpoint answers: the agent gets stand-ins, or nothing.

use super::{ACCESS, Login, REFRESH, posted, without_tokens};
use crate::rig::origin::{AnyBody, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::routes;
use crate::rig::script::{Line, Script};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::json;
use std::io::Write;

fn said(body: impl Into<bytes::Bytes>, kind: &str) -> Response<AnyBody> {
    routes::bytes(body, kind)
}

#[tokio::test]
async fn every_form_of_a_token_in_a_reply_is_kept() {
    let login = Login::start(Speaks::Both).await;
    let escaped: String = ACCESS.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    for (kind, body) in [
        // Once more where no token is looked for, before the token has ever been seen.
        (
            "application/json",
            json!({"note": format!("it is {ACCESS}"), "access_token": ACCESS, "raw": ACCESS}).to_string(),
        ),
        ("application/json", json!({"access_token": ACCESS}).to_string()),
        (
            "application/json",
            json!({"data": [{"deep": {"access_token": ACCESS, "refresh_token": REFRESH}}]}).to_string(),
        ),
        // The same key twice; another way to write the key, the value, the space between.
        (
            "application/json",
            format!(r#"{{"access_token":"{REFRESH}","access_token":"{ACCESS}"}}"#),
        ),
        ("application/json", format!(r#"{{"access\u005ftoken" : "{escaped}" }}"#)),
        (
            "application/json",
            json!({"accessToken": ACCESS, "Refresh-Token": REFRESH}).to_string(),
        ),
        ("text/javascript", json!({"access_token": ACCESS}).to_string()),
        (
            "application/x-www-form-urlencoded; charset=utf-8",
            format!("access_token={ACCESS}&scope=a%2Cb&token_type=bearer"),
        ),
        (
            "application/x-www-form-urlencoded",
            format!("access%5Ftoken={ACCESS}&access_token={REFRESH}"),
        ),
        (
            "application/x-www-form-urlencoded",
            format!("note={ACCESS}&access_token={ACCESS}"),
        ),
    ] {
        let told = body.clone();
        login.answers(move || said(told.clone(), kind));
        let reply = login.asks("code=1").await;
        assert_eq!(reply.status, StatusCode::OK, "{body}: {}", reply.text());
        without_tokens(&reply);
        assert!(!reply.text().contains(&escaped[..60]), "{}", reply.text());
        assert_eq!(reply.header("content-length"), reply.body.len().to_string(), "{body}");
    }
    let record = login.proxy.records(10).await.swap_remove(0);
    assert_eq!(record["scrubbed"], 3, "{record}");
}

#[tokio::test]
async fn a_signed_token_can_be_read_and_has_another_signature() {
    let login = Login::start(Speaks::Both).await;
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let read = format!(
        "{}.{}",
        part(json!({"alg": "RS256"})),
        part(json!({"sub": "me", "exp": 4_000_000_000_u64}))
    );
    let signature = URL_SAFE_NO_PAD.encode([0xa7; 256]);
    let token = format!("{read}.{signature}");
    login.answers_json(json!({"id_token": token, "access_token": token}));
    let reply = login.asks("code=1").await;
    let held = reply.json()["id_token"].as_str().unwrap().to_owned();
    assert!(held.starts_with(&format!("{read}.")) && held.len() == token.len());
    assert!(!reply.text().contains(&signature[8..60]), "{}", reply.text());
    assert_eq!(URL_SAFE_NO_PAD.decode(&held[read.len() + 1..]).unwrap().len(), 256);
    let shown = login
        .shows("api.test", "authorization", &format!("Bearer {held}"))
        .await;
    assert_eq!(login.api.only().all("authorization"), [format!("Bearer {token}")]);
    assert!(shown.text().contains(&held), "{}", shown.text());
    assert!(!shown.text().contains(&signature[..60]));
    // The stand-in's own signature is blocked where the rest of it is not.
    let part = &held[read.len() + 1..];
    assert_eq!(
        login.shows("other.test", "x", part).await.code(),
        "placeholder_misplaced"
    );
}

#[tokio::test]
async fn compressed_replies_are_read_whoever_asked_for_that() {
    let login = Login::start(Speaks::Both).await;
    let body = json!({"access_token": ACCESS}).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(body.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(body.as_bytes(), 3).unwrap();
    for (coding, bytes) in [("gzip", gzip), ("zstd", zstd)] {
        login.answers(move || routes::with(said(bytes.clone(), "application/json"), "content-encoding", coding));
        let reply = login.asks("code=1").await;
        assert_eq!((reply.status, reply.header("content-encoding")), (StatusCode::OK, ""));
        assert_eq!(reply.json()["access_token"].as_str().unwrap().len(), ACCESS.len());
        without_tokens(&reply);
    }
}

/// Asks for a token and is told that the reply is withheld.
async fn is_withheld(login: &Login, what: &str) {
    let reply = login.asks("code=1").await;
    let told = (reply.status.as_u16(), reply.code());
    assert_eq!(told, (502, "token_reply_unreadable"), "{what}: {}", reply.text());
    without_tokens(&reply);
    let records = login.proxy.records(1).await;
    assert!(records.iter().all(|record| record["reason"].is_string()), "{records:?}");
}

#[tokio::test]
async fn what_cannot_be_read_for_certain_is_withheld() {
    let login = Login::start(Speaks::Both).await;
    let json = "application/json";
    let token = json!({"access_token": ACCESS}).to_string();
    let nested = json!({"body": token.clone()}).to_string();
    for (what, kind, body) in [
        ("html", "text/html", format!("<p>{ACCESS}</p>")),
        ("html that says it is JSON", json, format!("<p>{ACCESS}</p>")),
        (
            "JSON that says it is a form",
            "application/x-www-form-urlencoded",
            token.clone(),
        ),
        ("a form that says it is JSON", json, format!("access_token={ACCESS}")),
        ("half", json, token[..token.len() - 1].to_owned()),
        ("two documents", json, format!("{token}{token}")),
        ("UTF-16", json, token.chars().flat_map(|c| [c, '\0']).collect()),
        ("a text alone", json, json!(ACCESS).to_string()),
        (
            "a text in a text",
            json,
            json!([json!(json!(nested).to_string()).to_string()]).to_string(),
        ),
        (
            "many",
            json,
            json!(
                (0..17)
                    .map(|n| json!({"access_token": format!("{ACCESS}{n}")}))
                    .collect::<Vec<_>>()
            )
            .to_string(),
        ),
        ("a number", json, r#"{"access_token": 123456789012}"#.to_owned()),
        ("a list", json, json!({"access_token": [ACCESS]}).to_string()),
        ("a control byte", json, r#"{"access_token":"a\u0000b"}"#.to_owned()),
        ("JSON in JSON", json, nested.clone()),
        ("JSON in JSON in JSON", json, json!({"body": nested}).to_string()),
        (
            "an address",
            json,
            json!({"next": format!("https://app.test/#access_token={ACCESS}")}).to_string(),
        ),
        ("too long", json, format!("{}{token}", " ".repeat(1 << 20))),
    ] {
        login.answers(move || said(body.clone(), kind));
        is_withheld(&login, what).await;
    }
}

#[tokio::test]
async fn a_coding_that_cannot_be_undone_and_a_redirect_are_withheld_too() {
    let login = Login::start(Speaks::Both).await;
    let token = json!({"access_token": ACCESS}).to_string().into_bytes();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
    for (what, coding, bytes) in [
        ("a bomb", "gzip", bomb.finish().unwrap()),
        ("a coding nobody knows", "exotic", token.clone()),
        ("several codings", "gzip, br", token.clone()),
        ("no gzip", "gzip", token),
    ] {
        login.answers(move || routes::with(said(bytes.clone(), "application/json"), "content-encoding", coding));
        is_withheld(&login, what).await;
    }
    login.answers(|| {
        let to = format!("https://app.test/#access_token={ACCESS}");
        let mut answer = routes::with(routes::empty(StatusCode::FOUND), "location", &to);
        *answer.status_mut() = StatusCode::FOUND;
        answer
    });
    is_withheld(&login, "a redirect").await;
    login.answers(|| {
        let mut answer = said(json!([ACCESS]).to_string(), "application/json");
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        routes::with(answer, "content-range", "bytes 20-80/200")
    });
    is_withheld(&login, "a part").await;
}

#[tokio::test]
async fn fields_of_the_head_that_could_hold_a_token_do_not_reach_the_agent() {
    let login = Login::start(Speaks::Both).await;
    login.answers(|| {
        let mut answer = routes::json(&json!({"access_token": ACCESS}));
        for (name, value) in [
            ("set-cookie", format!("session={REFRESH}")),
            ("x-auth-token", REFRESH.to_owned()),
            ("link", format!("<https://app.test/?t={REFRESH}>")),
            ("www-authenticate", format!("Bearer realm=\"{ACCESS}\"")),
            ("cache-control", "no-store".to_owned()),
        ] {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    });
    let reply = login.asks("code=1").await;
    without_tokens(&reply);
    let mut names: Vec<_> = reply.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "cache-control",
            "content-length",
            "content-type",
            "date",
            "www-authenticate"
        ]
    );
}

#[tokio::test]
async fn what_holds_no_token_passes_as_it_is() {
    let login = Login::start(Speaks::Both).await;
    for (status, kind, body) in [
        (
            400,
            "application/json",
            r#"{"error":"authorization_pending","interval":5}"#,
        ),
        (
            401,
            "application/json",
            r#"{"error":"invalid_client","access_token":null}"#,
        ),
        (503, "text/html", "<h1>down for a while</h1>"),
        (200, "application/json", r#"{"error":"slow_down"}"#),
        (
            200,
            "application/x-www-form-urlencoded",
            "error=authorization_pending&error_uri=https%3A%2F%2Fa.test",
        ),
        (200, "application/json", ""),
    ] {
        login.answers(move || {
            let mut answer = said(body, kind);
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            answer
        });
        let reply = login.asks("grant_type=device").await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (status, body));
        assert_eq!(reply.code(), "");
    }
}

async fn in_pieces(mut line: Line, head: &str, pieces: Vec<String>) {
    while line.head().await.is_some() {
        line.body(6).await;
        line.say(head).await;
        for piece in &pieces {
            line.say(piece).await;
        }
        line.say(format!("0\r\nx-token: {ACCESS}\r\n\r\n")).await;
    }
}

#[tokio::test]
async fn a_token_that_comes_in_pieces_or_behind_the_body_is_kept_too() {
    let root = Root::new();
    let body = json!({"access_token": ACCESS, "token_type": "bearer"}).to_string();
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x-token\r\n\r\n";
    let pieces: Vec<_> = body
        .as_bytes()
        .chunks(3)
        .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
        .collect();
    let script = Script::start(&root, "auth.test", move |line| in_pieces(line, head, pieces.clone())).await;
    let proxy = Rig::new(&root)
        .reach_script(&script)
        .rule("name: token, host: auth.test, capture: { login: mail }")
        .rule("name: api, host: api.test, inject: [{ login: mail }]")
        .serve()
        .await;
    for http2 in [false, true] {
        let mut http = match http2 {
            true => proxy.agent.h2("auth.test").await,
            false => proxy.agent.h1("auth.test").await,
        };
        let reply = http.reply(posted("https://auth.test/token", "code=1")).await;
        assert_eq!(reply.json()["access_token"].as_str().unwrap().len(), ACCESS.len());
        assert_eq!((reply.body.len(), &reply.trailers), (body.len(), &None));
        without_tokens(&reply);
    }
}
