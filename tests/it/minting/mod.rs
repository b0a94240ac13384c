//! Tokens that Keyferry asks for or makes: by a certified authorisation server, by checks of an independent library, and
//! when whoever hands them out fails.

mod clock;
mod faults;
mod oauth2;
mod page;
mod presets;
mod services;
pub mod vault;
mod vault_lent;

use crate::pages;
use crate::rig::agent::{Reply, get};
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::tools;
use crate::rig::{PATIENCE, eventually};
use crate::signing::servers::{Server, free};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData};
use serde_json::json;
use std::path::Path;
use std::process::Command;

pub const BASIC: &str = "s3cr&t=%+/of-basic";
pub const POST: &str = "s3cr&t=%+/of-post";

/// The authorisation server and its API, the refresh token it has handed out, and the key that the client `signed` has.
pub struct Provider {
    pub server: Server,
    pub refresh: String,
    pub key: String,
}

/// Starts one whose access tokens are good for so many seconds.
pub async fn provider(root: &Root, seconds: u32, dir: &Path) -> Provider {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "use": "sig", "alg": "EdDSA",
        "x": URL_SAFE_NO_PAD.encode(key.der_bytes())});
    let at = free().await;
    let mut command = Command::new(tools::npm(".bin/node").canonicalize().unwrap());
    bare(&mut command, dir);
    let packages = tools::npm("oidc-provider").parent().unwrap().to_owned();
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/minting/scripts/provider.mjs"
        ))
        .arg(packages)
        .args([at.port().to_string(), jwk.to_string(), seconds.to_string()]);
    let names = [&["auth.test", "api.test"], presets::HOSTS].concat();
    let server = Server::start(root, &names, command, at).await;
    let refresh = eventually("the first refresh token", || {
        let log = server.running.log();
        let mut lines = log.lines();
        lines.find_map(|line| line.strip_prefix("refresh ")).map(str::to_owned)
    })
    .await;
    Provider {
        server,
        refresh,
        key: key.serialize_pem(),
    }
}

impl Provider {
    /// A rig to which both of its names lead.
    pub fn rig(&self, root: &Root) -> Rig {
        Rig::new(root)
            .reach_as("auth.test", self.server.address)
            .reach_as("api.test", self.server.address)
    }
}

/// The config of a page in a rig's folder, with the provider in the place of its hosts, and where its listener is.
pub async fn config_of(page: &str, provider: &Provider, rig: &Rig) -> (String, u16) {
    let port = free().await.port();
    let block = pages::block(page, "yaml");
    let config = block
        .replace("auth.crm.example", "auth.test")
        .replace("api.crm.example", "api.test");
    assert_ne!(block, config);
    let upstream = format!(
        "roots: [{}]\n  resolve: {{ api.test: \"{1}\", auth.test: \"{1}\" }}\n  allow_networks: [127.0.0.0/8]",
        rig.dir().join("root.pem").display(),
        provider.server.address,
    );
    (
        format!("listen: [127.0.0.1:{port}]\nupstream:\n  {upstream}\n{config}"),
        port,
    )
}

/// The rule for the API, with a token by these keys of `oauth2`.
pub fn rule(oauth2: &str) -> String {
    format!("name: api, host: api.test, inject: [{{ oauth2: {{ token_url: \"https://auth.test/token\", {oauth2} }} }}]")
}

/// What the API answers to one request.
pub async fn asked(proxy: &Proxy, path: &str) -> Reply {
    let mut http = proxy.agent.h2("api.test").await;
    http.reply(get(&format!("https://api.test{path}"))).await
}

/// A key of each kind, in files, as openssl makes them: RSA, P-256, Ed25519.
pub fn keys(dir: &Path) -> [String; 3] {
    let kinds = [
        ("rsa", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("ec", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("ed", "ED25519"),
    ];
    kinds.map(|(name, kind)| {
        let path = dir.join(format!("{name}.pem"));
        let made = Command::new(tools::need("openssl"))
            .args(["genpkey", "-algorithm"])
            .args(kind.split(' '))
            .arg("-out")
            .arg(&path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path.to_str().unwrap().to_owned()
    })
}

/// Waits for a second and more of a token's life to go by.
pub async fn pass(seconds: f64) {
    assert!(seconds < PATIENCE.as_secs_f64());
    tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
}
