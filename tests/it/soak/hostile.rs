//! Agents and upstreams that do as they should not: each is refused, cut or cleaned in the way that is promised.

use super::hosts::ENOUGH;
use super::kinds::Kind;
use super::load::{Load, STAND_IN};
use crate::rig::agent::{self, Agent, Http, get};
use crate::rig::{routes, soon};
use http::{HeaderValue, Request};
use http_body_util::BodyExt;

/// A download without end, left half-way: with its connection, or on one that goes on.
pub async fn abandoned(load: &Load) {
    for http2 in [false, true] {
        let mut http = load.http("api.test", http2).await;
        for _ in 0..3 {
            let (number, url) = load.url(Kind::Abandoned, "api.test");
            let mut body = http.send(get(&url)).await.unwrap().into_body();
            load.tally.saw(Kind::Abandoned, number, 200, "");
            let mut read = 0;
            while read < ENOUGH {
                let frame = soon("a piece", body.frame()).await.unwrap().unwrap();
                read += frame.data_ref().map_or(0, |piece| piece.len());
            }
            drop(body);
            load.rest().await;
            if !http2 {
                http = load.http("api.test", false).await;
            }
        }
    }
}

/// Paths that no rule allows, and such as could be read in two ways.
pub async fn denied(load: &Load) {
    let mut http = load.http("api.test", true).await;
    for _ in 0..20 {
        load.ask(&mut http, Kind::Denied, "api.test", get).await;
        load.ask(&mut http, Kind::Denied, "api.test", |url| {
            get(&format!("{url}/../../kept/1"))
        })
        .await;
        load.rest().await;
    }
}

/// CONNECT to where no rule leads, without a token, with garbage behind it, or by one that does not trust us.
pub async fn turned_away(load: &Load) {
    for kind in [Kind::Away, Kind::Stranger, Kind::Garbled, Kind::Untrusting] {
        let number = load.tally.begin(kind);
        let inside = matches!(kind, Kind::Garbled | Kind::Untrusting);
        let host = format!(
            "{}-{number}.{}.test",
            kind.name(),
            if inside { "inside" } else { "away" }
        );
        let stranger = Agent {
            offer: None,
            ..load.agent.clone()
        };
        let agent = if kind == Kind::Stranger { &stranger } else { &load.agent };
        let (status, head, mut raw) = agent.connect(&format!("{host}:443")).await;
        match kind {
            Kind::Garbled => {
                raw.say(b"\x00\x01\x02\x03\x04\x05\x06\x07").await;
                raw.rest().await;
            }
            Kind::Untrusting => {
                let shaken = load.pinning.handshake(raw.io, &host, &["http/1.1"]).await;
                assert!(shaken.is_err(), "a stranger's certificate was trusted");
            }
            _ => load.tally.saw(kind, number, status, ""),
        }
        load.hide(kind.name(), head.as_bytes());
        load.rest().await;
    }
}

/// Requests that can be read in two ways, or are meant for somebody else.
pub async fn malformed(load: &Load) {
    let forms: [(Kind, &str, &str); 4] = [
        (Kind::Malformed, "GET", "Host: api.test\r\nHost: vendor.test"),
        (Kind::Malformed, "TRACE", "Host: api.test"),
        (Kind::Malformed, "GET", "Host: user@api.test"),
        (Kind::Misdirected, "GET", "Host: vendor.test"),
    ];
    for (kind, method, fields) in forms {
        let mut raw = load.agent.raw("api.test").await;
        let number = load.tally.begin(kind);
        raw.say(format!(
            "{method} /{}/{number} HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n",
            kind.name()
        ))
        .await;
        let (answer, _) = raw.rest().await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let told = answer.lines().find_map(|line| line.strip_prefix("x-keyferry-error: "));
        load.tally
            .saw(kind, number, agent::status(&answer), told.unwrap_or("nothing"));
        load.hide(kind.name(), answer.as_bytes());
        load.rest().await;
    }
}

/// What never becomes a request, and so has no record.
pub async fn unheard(load: &Load) {
    let mut silent = load.agent.dial().await;
    load.rest().await;
    silent.say("CONN").await;
    drop(silent);
    let mut garbage = load.agent.dial().await;
    garbage.say("\x01\x02 this is no HTTP\r\n\r\n").await;
    garbage.rest().await;
    let mut inside = load.agent.raw("api.test").await;
    inside.say("GET /no version\r\nHost: api.test\r\n\r\n").await;
    let (answer, _) = inside.rest().await;
    load.hide("a bare answer", &answer);
}

/// The placeholder to another host, in another place, twice.
pub async fn misplaced(load: &Load) {
    let value = HeaderValue::from_static(STAND_IN);
    for (host, place) in [
        ("api.test", 0),
        ("vendor.test", 1),
        ("vendor.test", 2),
        ("vendor.test", 3),
    ] {
        let mut http = load.http(host, place % 2 == 0).await;
        let wrong = |url: &str| {
            let request = match place {
                0 => Request::post(url).header("x-vendor", &value),
                1 => Request::post(format!("{url}?key={STAND_IN}")),
                2 => Request::post(url).header("x-other", &value),
                _ => Request::post(url).header("content-type", "application/json"),
            };
            let body = if place == 3 {
                format!("{{\"other\":\"{STAND_IN}\"}}")
            } else {
                String::new()
            };
            request.body(routes::full(body)).unwrap()
        };
        load.ask(&mut http, Kind::Misplaced, host, wrong).await;
        load.rest().await;
    }
}

/// An upstream that echoes what it was given, in every spelling and coding.
pub async fn echo(load: &Load) {
    for http2 in [false, true] {
        let mut http = load.http("echo.test", http2).await;
        for coding in ["", "gzip", "deflate", "zstd", "br"] {
            let asked = |url: &str| coded(url, coding, "gzip, deflate, zstd, br");
            let reply = load.ask(&mut http, Kind::Echo, "echo.test", asked).await;
            load.well(Kind::Echo, reply, |reply| reply.text().lines().count() == 14);
            load.rest().await;
        }
        // In codings it did not offer, and such as nobody knows. The answer is withheld or cut.
        for coding in ["gzip", "br", "compress"] {
            let (number, url) = load.url(Kind::Hidden, "echo.test");
            let Ok(response) = http.send(coded(&url, coding, "identity")).await else {
                http = load.http("echo.test", http2).await;
                continue;
            };
            load.tally.saw(Kind::Hidden, number, response.status().as_u16(), "");
            let mut body = response.into_body();
            while let Some(Ok(frame)) = soon("a piece", body.frame()).await {
                let piece = frame.into_data().unwrap_or_default();
                let mut plain = Vec::new();
                let _ = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&piece[..]), &mut plain);
                load.hide("hidden", &piece);
                load.hide("hidden", &plain);
            }
            if !http2 {
                http = load.http("echo.test", false).await;
            }
        }
    }
}

fn coded(url: &str, coding: &str, offered: &'static str) -> Request<crate::rig::origin::AnyBody> {
    let mut ask = get(&format!("{url}?coding={coding}"));
    ask.headers_mut()
        .insert("accept-encoding", HeaderValue::from_static(offered));
    ask
}

/// An upstream that breaks off, says nothing, or talks garbage.
pub async fn broken(load: &Load, host: &'static str, kind: Kind) {
    for http2 in [false, true] {
        let mut http = load.http(host, http2).await;
        let (number, url) = load.url(kind, host);
        let response = match http.send(get(&url)).await {
            Ok(response) => response,
            // A stream that is reset takes with it what was not read yet, the head too.
            Err(_) if kind == Kind::Cut => continue,
            Err(error) => panic!("{url}: {error:?}"),
        };
        let code = response.headers().get("x-keyferry-error").cloned();
        let code = code.as_ref().map_or("", |code| code.to_str().unwrap());
        let status = response.status().as_u16();
        load.tally.saw(kind, number, status, code);
        let whole = response.into_body().collect().await.is_ok();
        if whole && status == 200 && kind == Kind::Cut {
            load.tally.fail(format!("cut {number} looked whole"));
        }
        // Beside it, a rule that lets few through.
        let mut http = load.http("limited.test", http2).await;
        load.ask(&mut http, Kind::Limited, "limited.test", get).await;
        load.rest().await;
    }
}

/// Streams that are reset as soon as they are opened.
pub async fn reset(load: &Load) {
    let Http::Two(send) = load.http("api.test", true).await else {
        unreachable!("it was asked for HTTP/2")
    };
    for _ in 0..3 {
        let (_, url) = load.url(Kind::Reset, "api.test");
        let mut http = Http::Two(send.clone());
        let asked = http.send(get(&url));
        let _ = tokio::time::timeout(std::time::Duration::from_micros(200), asked).await;
        load.rest().await;
    }
    // The connection still serves.
    let reply = load.ask(&mut Http::Two(send), Kind::Streams, "api.test", get).await;
    load.well(Kind::Streams, reply, |reply| reply.text() == "well done");
}
