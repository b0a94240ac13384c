//! A body in signed chunks on its way through: the pieces do not matter, what goes out is as long as what came and has
//! the same chunks, and no end goes out that did not come.
#![no_main]

use futures_util::FutureExt as _;
use http::{Request, Version};
use keyferry::base::ask::{Ask, Scheme};
use keyferry::base::budget::Budget;
use keyferry::base::host::Target;
use keyferry::base::ids::AgentId;
use keyferry::base::tasks::Tasks;
use keyferry::config::Config;
use keyferry::inject::{Captured, Injector, StandIns};
use keyferry::policy::Policy;
use keyferry::store::{EncryptedFile, KeySource, Store, StoreOptions};
use keyferry_fuzz::{cut, drained, streamed};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::{Arc, LazyLock};

const HOST: &str = "bucket.s3.eu-west-1.amazonaws.com";
const CONFIG: &str = "
listen: [127.0.0.1:0]
secrets: { id: { env: KEYFERRY_FUZZ_ID }, key: { env: KEYFERRY_FUZZ_KEY } }
rules: [{ host: bucket.s3.eu-west-1.amazonaws.com, inject: [{ sigv4: { access_key_id: id, secret_access_key: key } }] }]
";

static LIVE: LazyLock<(Policy, Injector)> = LazyLock::new(|| {
    // SAFETY: no other thread has been started yet.
    unsafe {
        std::env::set_var("KEYFERRY_FUZZ_ID", "AKIAIOSFODNN7EXAMPLE");
        std::env::set_var("KEYFERRY_FUZZ_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    }
    let config = Config::parse(CONFIG, Path::new("keyferry.yaml")).unwrap().config;
    let options = StoreOptions {
        watch: false,
        key: KeySource::from_env(),
        ..StoreOptions::new("/nonexistent")
    };
    let store = Arc::new(Store::open(&config.secrets, options, &Tasks::default()).unwrap());
    let stand_ins = Arc::new(StandIns::new(vec!["id".into(), "key".into()], vec![None, None]));
    let captured = Captured::new(EncryptedFile::new(Path::new("/nonexistent"), KeySource::from_env()));
    let injector = Injector::new(&config, store, stand_ins, Arc::new(captured));
    (Policy::new(&config), injector)
});

#[derive(Debug, Arbitrary)]
struct Sent<'a> {
    parts: Vec<Part<'a>>,
    trailer: bool,
    one: Vec<u16>,
    other: Vec<u16>,
}

#[derive(Debug, Arbitrary)]
enum Part<'a> {
    Chunk(&'a [u8]),
    Signature,
    Line(&'a str),
    Raw(&'a [u8]),
    End,
}

impl Sent<'_> {
    fn written(&self) -> Vec<u8> {
        let signature = "0".repeat(64);
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Chunk(bytes) => {
                    out.extend(format!("{:x};chunk-signature={signature}\r\n", bytes.len()).bytes());
                    out.extend_from_slice(bytes);
                    out.extend_from_slice(b"\r\n");
                }
                Part::Signature => out.extend(format!("x-amz-trailer-signature:{signature}\r\n").bytes()),
                Part::Line(text) => out.extend(format!("{text}\r\n").bytes()),
                Part::Raw(bytes) => out.extend_from_slice(bytes),
                Part::End => out.extend_from_slice(b"\r\n"),
            }
        }
        out
    }
}

/// What goes out of a body, and whether it came to its end.
fn through(body: &[u8], trailer: bool, cuts: &[u16]) -> (Vec<u8>, bool) {
    let suffix = if trailer { "-TRAILER" } else { "" };
    let request = Request::put("/key")
        .version(Version::HTTP_11)
        .header("host", HOST)
        .header(
            "x-amz-content-sha256",
            format!("STREAMING-AWS4-HMAC-SHA256-PAYLOAD{suffix}"),
        )
        .body(streamed(cut(body, cuts)))
        .unwrap();
    let (parts, body) = request.into_parts();
    let ask = Ask::read(&Target::parse(HOST, Some(443)).unwrap(), Scheme::Https, &parts).unwrap();
    let request = Request::from_parts(parts, body);
    let mut permitted = LIVE.0.permit(AgentId(0), &ask, request).unwrap();
    let armed = LIVE.1.arm(&mut permitted, &Budget::default()).now_or_never();
    armed
        .expect("both secrets are there at once")
        .expect("it can be signed");
    drained(permitted.take_body())
}

/// The lines of what came or went, without signatures, in which alone they may differ.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for mark in [&b"chunk-signature="[..], b"signature:"] {
        let mut at = 0;
        while let Some(found) = memchr::memmem::find(&out[at..], mark) {
            let start = at + found + mark.len();
            let end = (start + 64).min(out.len());
            out[start..end].fill(b'0');
            at = end;
        }
    }
    out
}

fuzz_target!(|sent: Sent| {
    let body = sent.written();
    let (one, whole) = through(&body, sent.trailer, &sent.one);
    let (other, also) = through(&body, sent.trailer, &sent.other);
    assert_eq!(whole, also, "a cut makes an end of it, or none");
    if whole {
        assert_eq!(one.len(), body.len(), "a length has changed");
        // Signed a second apart, the signatures differ.
        assert_eq!(unsigned(&one), unsigned(&other), "the pieces matter");
    }
    assert!(body.len() >= one.len());
    let (out, came) = (unsigned(&one), unsigned(&body));
    assert!(came.starts_with(&out), "something went out that did not come");
});
