//! What arrives is what was signed, as botocore sums it up, whichever way it came and went.

use super::{ID, SECRET, SIGN, keys};
use crate::fidelity::PAIRS;
use crate::rig::agent::{get, request};
use crate::rig::origin::{AnyBody, Origin, Received, Speaks};
use crate::rig::proxy::Proxy;
use crate::rig::root::Root;
use crate::rig::tools;
use http::{HeaderValue, Method, Request};
use serde_json::json;
use std::process::Command;

const HOST: &str = "api.test";

/// An origin to which requests go signed for this service.
pub async fn signing(speaks: Speaks, service: &str, more: &str) -> (Origin, Proxy) {
    signing_for("eu-west-1", speaks, service, more).await
}

async fn signing_for(region: &str, speaks: Speaks, service: &str, more: &str) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::speaking(&root, HOST, speaks).await;
    let sign = SIGN.replace(" }", &format!(", region: \"{region}\", service: {service}{more} }}"));
    let rule = |name: &str, host: &str| format!("name: {name}, host: \"{host}\", inject: [{{ {sign} }}]");
    let rig = keys(&root, ID, SECRET).reach(&origin);
    (
        origin,
        rig.rule(&rule("a", HOST))
            .rule(&rule("b", "api.test:8443"))
            .serve()
            .await,
    )
}

/// A request as an SDK makes it: signed with keys that are worth nothing.
pub fn theirs(method: Method, target: &str, body: &'static str) -> Request<AnyBody> {
    let mut ask = match body {
        "" => get(&format!("https://{HOST}{target}")),
        body => request(method.clone(), &format!("https://{HOST}{target}"), body),
    };
    *ask.method_mut() = method;
    let signature = "AWS4-HMAC-SHA256 Credential=AKIDTHEIRS/20200101/us-east-1/nothing/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature=0123";
    for (name, value) in [
        ("authorization", signature),
        ("x-amz-date", "20200101T000000Z"),
        ("x_amz_date", "20200101T000000Z"),
        ("x-amz-security-token", "their-token"),
        ("user-agent", "an SDK"),
        ("accept-encoding", "identity, made-up"),
    ] {
        ask.headers_mut().append(name, HeaderValue::from_static(value));
    }
    ask
}

const PRESIGNED: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDTHEIRS%2F20200101%2Fus-east-1%2Fs3%2F\
    aws4_request&X-Amz-Date=20200101T000000Z&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&x-amz-security-token=t&\
    X-Amz-Signature=0123";

/// Has botocore sum up the signature of each anew.
fn verify(seen: &[Received], dir: &std::path::Path) {
    verify_with(seen, dir, &[]);
}

/// The same for signatures of version 4A.
fn verify_asymmetric(seen: &[Received], dir: &std::path::Path) {
    let crt = tools::installed().join("awscrt");
    assert!(
        crt.is_dir(),
        "awscrt is not installed; run scripts/test once, it installs it"
    );
    verify_with(seen, dir, &[crt.to_str().unwrap()]);
}

fn verify_with(seen: &[Received], dir: &std::path::Path, more: &[&str]) {
    assert!(!seen.is_empty());
    let lines = seen.iter().map(|one| {
        let headers: Vec<_> = one
            .headers
            .iter()
            .filter(|(name, _)| *name != "host")
            .map(|(name, value)| [name.as_str(), std::str::from_utf8(value.as_bytes()).unwrap()])
            .collect();
        let body = String::from_utf8_lossy(&one.body);
        json!({"method": one.method, "target": one.target, "host": one.authority, "headers": headers, "body": body})
    });
    let lines: Vec<_> = lines.map(|line| line.to_string()).collect();
    std::fs::write(dir.join("seen"), lines.join("\n")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/signing/scripts/verify.py");
    let output = Command::new(tools::python())
        .arg(script)
        .args([ID, SECRET])
        .arg(dir.join("seen"))
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn says_nothing_of_theirs(seen: &Received) {
    let text = format!("{seen:?}");
    let theirs = "AKIDTHEIRS 20200101 their-token Expires=604800 security-token AWSAccessKeyId Signature=their";
    for gone in theirs.split(' ') {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
}

fn header(ask: Request<AnyBody>, name: &'static str, value: &'static str) -> Request<AnyBody> {
    let mut ask = ask;
    ask.headers_mut().append(name, HeaderValue::from_static(value));
    ask
}

fn asks(service: &str) -> Vec<Request<AnyBody>> {
    let by_url = format!("/k%20e/y?versionId=1&{PRESIGNED}");
    let mut asks = vec![
        get("https://api.test/unsigned"),
        theirs(Method::GET, "/", ""),
        theirs(
            Method::GET,
            "/?list-type=2&prefix=a%20b%2Bc&delimiter=%2F&x&B=1&a=2&a=1&%7Etilde=~",
            "",
        ),
        theirs(Method::DELETE, "/a%20b+c/(x)=&'*!$@,;:/~-._/%C3%BC/%2F", ""),
        theirs(Method::POST, "/echo", "{\"a\": 1}"),
        header(theirs(Method::GET, "/meta", ""), "x-amz-meta-two", "  a   b  "),
        header(
            header(theirs(Method::GET, "/twice", ""), "x-amz-meta-one", "b"),
            "x-amz-meta-one",
            "a",
        ),
        header(
            theirs(Method::POST, "/typed", "x"),
            "content-type",
            "text/plain; charset=utf-8",
        ),
        theirs(Method::GET, &by_url, ""),
        theirs(
            Method::GET,
            "/older?AWSAccessKeyId=AKIDTHEIRS&Signature=theirs&Expires=1600000000&a=1",
            "",
        ),
        // A Host of its own port.
        get("https://api.test:8443/port"),
    ];
    if service == "s3" {
        let hash = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        asks.push(header(theirs(Method::PUT, "/hash", "x"), "x-amz-content-sha256", hash));
        asks.push(header(
            theirs(Method::PUT, "/open", "x"),
            "x-amz-content-sha256",
            "UNSIGNED-PAYLOAD",
        ));
        asks.push(header(theirs(Method::PUT, &by_url, "x"), "x-amz-content-sha256", hash));
    }
    asks
}

#[tokio::test]
async fn every_form_of_request_arrives_with_a_signature_that_botocore_confirms() {
    for service in ["s3", "execute-api"] {
        for (http2, speaks) in PAIRS {
            let (origin, proxy) = signing(speaks, service, "").await;
            send_all(&origin, &proxy, service, http2).await;
            verify(&origin.seen(), proxy.rig.dir());
        }
    }
}

#[tokio::test]
async fn every_form_of_request_is_signed_for_a_set_of_regions_too() {
    for service in ["s3", "execute-api"] {
        for (http2, speaks) in PAIRS {
            let (origin, proxy) = signing_for("*", speaks, service, "").await;
            send_all(&origin, &proxy, service, http2).await;
            verify_asymmetric(&origin.seen(), proxy.rig.dir());
        }
    }
    let (origin, proxy) = signing_for("us-*,eu-west-1", Speaks::Both, "s3", "").await;
    let chunks = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let ask = header(theirs(Method::PUT, "/chunks", "x"), "x-amz-content-sha256", chunks);
    let reply = proxy.agent.h2(HOST).await.reply(ask).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (422, "request_unsignable"));
    assert_eq!(origin.connections(), 0);
    let reply = proxy.agent.h2(HOST).await.reply(theirs(Method::GET, "/", "")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(origin.seen()[0].all("x-amz-region-set"), ["us-*,eu-west-1"]);
}

/// Sends a request of each form, and sees that all of them arrive.
async fn send_all(origin: &Origin, proxy: &Proxy, service: &str, http2: bool) {
    let asks = asks(service);
    let count = asks.len();
    for ask in asks {
        let host = ask.uri().authority().unwrap().to_string();
        let line = match host.ends_with(":8443") {
            true => proxy.agent.connect(&host).await.2.io,
            false => proxy.agent.connect("api.test:443").await.2.io,
        };
        let uri = ask.uri().clone();
        let reply = proxy.agent.http_over(line, HOST, http2).await.reply(ask).await;
        assert_eq!(reply.status, 200, "{uri}: {}", reply.text());
    }
    let seen = origin.seen();
    assert_eq!(seen.len(), count);
    seen.iter().for_each(says_nothing_of_theirs);
}

#[tokio::test]
async fn a_session_token_goes_along_in_the_head_and_in_a_signed_url() {
    let root = Root::new();
    let origin = Origin::start(&root, HOST).await;
    let sign = SIGN.replace(" }", ", session_token: token, region: eu-west-1, service: s3 }");
    let proxy = keys(&root, ID, SECRET)
        .reach(&origin)
        .secret("TOKEN", "IQoJb3JpZ2lu/+=0123456789")
        .rule(&format!("name: s3, host: {HOST}, inject: [{{ {sign} }}]"))
        .serve()
        .await;
    for target in ["/in-head", &format!("/in-url?{PRESIGNED}")] {
        let reply = proxy.agent.h2(HOST).await.reply(theirs(Method::GET, target, "")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(!reply.text().contains("IQoJb3JpZ2lu"), "{}", reply.text());
    }
    let seen = origin.seen();
    assert_eq!(seen[0].all("x-amz-security-token"), ["IQoJb3JpZ2lu/+=0123456789"]);
    assert!(
        seen[1]
            .target
            .contains("&X-Amz-Security-Token=IQoJb3JpZ2lu%2F%2B%3D0123456789&")
    );
    verify(&seen, proxy.rig.dir());
}

#[tokio::test]
async fn another_injection_of_the_rule_and_a_swapped_body_are_signed_as_they_go_out() {
    let root = Root::new();
    let origin = Origin::start(&root, HOST).await;
    let sign = SIGN.replace(" }", ", region: eu-west-1, service: execute-api }");
    let proxy = keys(&root, ID, SECRET)
        .reach(&origin)
        .secret("API_KEY", "ak-0123456789abcdef")
        .secret_spec(
            "held",
            "{ env: API_KEY, placeholder: ak-standin-00000000, agent_env: [] }",
        )
        .rule(&format!(
            "name: api, host: {HOST}, inject: [{{ {sign} }}, {{ query: key, value: \"${{api_key}}\" }}, \
             {{ header: x-amz-api-key, value: \"${{api_key}}\" }}, {{ placeholder: held, in: [\"body:/secret\"] }}]"
        ))
        .serve()
        .await;
    let ask = header(
        theirs(Method::POST, "/echo?b=1", "{\"secret\": \"ak-standin-00000000\"}"),
        "content-type",
        "application/json",
    );
    let reply = proxy.agent.h2(HOST).await.reply(ask).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = origin.only();
    assert!(seen.target.contains("key=ak-0123456789abcdef"), "{}", seen.target);
    assert_eq!(seen.body, b"{\"secret\": \"ak-0123456789abcdef\"}");
    verify(&[seen], proxy.rig.dir());
}

#[tokio::test]
async fn nothing_of_a_signature_comes_back() {
    for (target, place) in [("/echo", "authorization"), ("/echo?", "query")] {
        let (origin, proxy) = signing(Speaks::Both, "s3", "").await;
        let target = match place {
            "query" => format!("{target}{PRESIGNED}"),
            _ => target.to_owned(),
        };
        let reply = proxy.agent.h2(HOST).await.reply(theirs(Method::GET, &target, "")).await;
        let seen = origin.only();
        let text = match place {
            "query" => seen.target.clone(),
            _ => seen.all("authorization").remove(0),
        };
        let signature = text.rsplit('=').next().unwrap();
        assert_eq!(signature.len(), 64, "{text}");
        assert!(
            reply.text().contains("AWS4-HMAC-SHA256"),
            "nothing was echoed: {}",
            reply.text()
        );
        for gone in [signature, ID, SECRET] {
            assert!(!reply.text().contains(gone), "{gone} came back: {}", reply.text());
        }
        let record = proxy.record().await;
        assert_eq!(
            record["credentials"],
            json!(["aws_access_key_id", "aws_secret_access_key"])
        );
        assert!(!record.to_string().contains(signature), "{record}");
    }
}
