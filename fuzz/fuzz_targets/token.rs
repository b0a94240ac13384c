//! An agent is known by its token and by nothing else in `Proxy-Authorization`.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use keyferry::base::ids::AgentId;
use keyferry::base::peer::Peer;
use keyferry::base::secret::{IsToken, Secret};
use keyferry::config::Config;
use keyferry::identity::{Identity, offered_token};
use keyferry_fuzz::holds;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;

const TOKEN: &[u8] = b"tok_5f3c";
const CONFIG: &str = "listen: [127.0.0.1:0]\nsecrets: { t: { env: T } }\nagents: { a: { token: t } }\nrules: []\n";

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let loaded = Config::parse(CONFIG, Path::new("keyferry.yaml")).unwrap();
    let secret = std::sync::Arc::new(Secret::new(TOKEN.to_vec()).unwrap());
    Identity::new(&loaded.config, |_| {
        let secret = std::sync::Arc::clone(&secret);
        IsToken::new(move |offered| secret.matches(offered))
    })
    .unwrap()
});

#[derive(Debug, Arbitrary)]
struct Offered<'a> {
    field: &'a [u8],
    user: &'a [u8],
    near: &'a [u8],
}

fuzz_target!(|offered: Offered| {
    let peer = Peer::Tcp(([127, 0, 0, 1], 9).into());
    let known = |value: &HeaderValue| IDENTITY.agent(&peer, None, Some(value)).ok() == Some(AgentId(0));
    if let Ok(value) = HeaderValue::from_bytes(offered.field) {
        let token = offered_token(&value);
        assert_eq!(known(&value), token.as_deref() == Some(TOKEN));
        // However it was spelled, the token itself was there.
        let text = offered
            .field
            .rsplit(|b| *b == b' ')
            .find(|word| !word.is_empty())
            .unwrap_or_default();
        let pair = STANDARD.decode(text).unwrap_or_default();
        assert!(!known(&value) || holds(text, TOKEN) || holds(&pair, TOKEN));
    }
    // What a client writes is read, and a neighbour of the token is not the token.
    let user: Vec<u8> = offered.user.iter().copied().filter(|b| *b != b':').collect();
    for (token, is) in [(TOKEN, true), (offered.near, offered.near == TOKEN)] {
        let pair = [&user, &b":"[..], token].concat();
        let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).unwrap();
        assert_eq!(known(&value), is);
    }
});
