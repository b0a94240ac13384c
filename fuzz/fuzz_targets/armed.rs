//! A request on its whole way to the upstream: the credential stands in its place, once, and nothing the agent
//! sent stands beside it; a stand-in never leaves as one.
#![no_main]

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use keyferry::base::ask::{Ask, Scheme};
use keyferry::base::host::Target;
use keyferry::base::ids::AgentId;
use keyferry::base::tasks::Tasks;
use keyferry::config::Config;
use keyferry::inject::{Captured, Injector, StandIns};
use keyferry::policy::{Permitted, Policy};
use keyferry::proxy::hygiene;
use keyferry::store::{EncryptedFile, KeySource, Store, StoreOptions};
use keyferry_fuzz::{cut, drained, holds, streamed};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::{Arc, LazyLock};

const VALUE: &str = "sk+live/0a1b2c3d";
const SPELT: &str = "sk%2Blive%2F0a1b2c3d";
const STAND_IN: &str = "sk-standin-00000";

/// One host for each way to give a credential.
const CONFIG: &str = "
listen: [127.0.0.1:0]
secrets: { k: { env: KEYFERRY_FUZZ_KEY, placeholder: sk-standin-00000 } }
rules:
  - { host: header.test, inject: [{ header: x-api-key, value: \"v ${k}\" }] }
  - { host: bearer.test, inject: [{ bearer: k }] }
  - { host: query.test, inject: [{ query: key, value: \"${k}\" }] }
  - { host: swap.test, inject: [{ placeholder: k, in: [\"header:x-api-key\", \"query:key\", path] }] }
";

struct Live {
    policy: Policy,
    injector: Injector,
    stand_ins: Arc<StandIns>,
}

static LIVE: LazyLock<Live> = LazyLock::new(|| {
    // SAFETY: no other thread has been started yet.
    unsafe { std::env::set_var("KEYFERRY_FUZZ_KEY", VALUE) };
    let config = Config::parse(CONFIG, Path::new("keyferry.yaml")).unwrap().config;
    let options = StoreOptions {
        watch: false,
        key: KeySource::from_env(),
        ..StoreOptions::new("/nonexistent")
    };
    let store = Store::open(&config.secrets, options, &Tasks::default()).unwrap();
    let stand_ins = Arc::new(StandIns::new(vec!["k".into()], vec![Some(STAND_IN.into())]));
    let captured = Captured::new(EncryptedFile::new(Path::new("/nonexistent"), KeySource::from_env()));
    Live {
        policy: Policy::new(&config),
        injector: Injector::new(&config, Arc::new(store), Arc::clone(&stand_ins), Arc::new(captured)),
        stand_ins,
    }
});

#[derive(Debug, Arbitrary)]
struct Asked<'a> {
    rule: u8,
    path: Vec<Piece<'a>>,
    fields: Vec<(u8, Vec<Piece<'a>>)>,
    body: Vec<Piece<'a>>,
    cuts: Vec<u16>,
}

#[derive(Debug, Arbitrary)]
enum Piece<'a> {
    Text(&'a str),
    StandIn,
    Key,
    Escaped(u8),
}

const HOSTS: [&str; 4] = ["header.test", "bearer.test", "query.test", "swap.test"];
const NAMES: [&str; 8] = [
    "x-api-key",
    "x_api_key",
    "authorization",
    "connection",
    "x-api_key",
    "cookie",
    "te",
    "x-other",
];

fuzz_target!(|asked: Asked| {
    let host = HOSTS[usize::from(asked.rule) % HOSTS.len()];
    let path = format!("/{}", written(&asked.path));
    let mut request = Request::builder()
        .uri(path.as_str())
        .version(Version::HTTP_11)
        .header("host", host);
    for (name, value) in &asked.fields {
        let Ok(value) = HeaderValue::from_str(&written(value)) else {
            return;
        };
        request = request.header(NAMES[usize::from(*name) % NAMES.len()], value);
    }
    let content = written(&asked.body);
    let body = streamed(cut(content.as_bytes(), &asked.cuts));
    let Ok(request) = request.body(body) else { return };
    let (mut parts, body) = request.into_parts();
    let target = Target::parse(host, Some(443)).unwrap();
    let Ok(ask) = Ask::read(&target, Scheme::Https, &parts) else {
        return;
    };
    hygiene::request(&mut parts.headers);
    let sent = (parts.headers.clone(), parts.uri.path_and_query().unwrap().to_string());
    let Ok(mut permitted) = LIVE.policy.permit(AgentId(0), &ask, Request::from_parts(parts, body)) else {
        return;
    };
    let armed = LIVE
        .injector
        .arm(&mut permitted, &keyferry::base::budget::Budget::default())
        .now_or_never()
        .expect("an environment variable is there at once");
    let Ok(armed) = armed else { return };
    assert_eq!(permitted.target(), &target);
    assert!(
        LIVE.stand_ins
            .find_in_head(permitted.headers(), permitted.path_and_query())
            .is_none()
    );
    assert!(!permitted.path_and_query().contains(STAND_IN), "a stand-in went out");
    let (sent_body, whole) = drained(permitted.take_body());
    assert!(content.as_bytes().starts_with(&sent_body) && !holds(&sent_body, STAND_IN.as_bytes()));
    assert_eq!(
        whole,
        !content.contains(STAND_IN),
        "a body without a stand-in is whole, and no other"
    );
    // The values that are the agent's own do not change, and count against nobody.
    let own = count(&sent.0, &sent.1);
    let now = count(permitted.headers(), permitted.path_and_query());
    let given = armed.credentials.len();
    match host {
        "header.test" => alone(&permitted, "x-api-key", &format!("v {VALUE}")),
        "bearer.test" => alone(&permitted, "authorization", &format!("Bearer {VALUE}")),
        "query.test" => {
            let keys = permitted.path_and_query().split_once('?').unwrap().1;
            let mut keys = url::form_urlencoded::parse(keys.as_bytes()).filter(|(name, _)| name == "key");
            assert!(keys.next().is_some_and(|(_, value)| value == VALUE) && keys.next().is_none());
        }
        _ => assert!(now <= own + 3 && (given > 0 || now == own), "{own} {now}"),
    }
    assert!(given == 1 || host == "swap.test");
    assert!(armed.needles.len() == given || host == "swap.test" && armed.needles.len() <= 1);
});

/// The one field of this name, under any alias.
fn alone(permitted: &Permitted, name: &str, value: &str) {
    let alias = |other: &HeaderName| other.as_str().replace('_', "-") == name;
    let all: Vec<_> = permitted.headers().iter().filter(|(other, _)| alias(other)).collect();
    assert!(all.len() == 1 && all[0].1 == value && all[0].0 == name, "{all:?}");
}

/// How often the credential stands in the head.
fn count(headers: &HeaderMap, path_and_query: &str) -> usize {
    let fields = headers
        .values()
        .filter(|value| holds(value.as_bytes(), VALUE.as_bytes()));
    fields.count() + path_and_query.matches(SPELT).count()
}

fn written(pieces: &[Piece]) -> String {
    let one = |piece: &Piece| match piece {
        Piece::Text(text) => (*text).to_owned(),
        Piece::StandIn => STAND_IN.to_owned(),
        Piece::Key => "?key=".to_owned(),
        Piece::Escaped(byte) => format!("%{byte:02x}"),
    };
    pieces.iter().map(one).collect()
}
