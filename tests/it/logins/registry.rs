//! A container registry and its token service: the agent has neither the password nor a token, and pushes and pulls.

use crate::rig::agent::get;
use crate::rig::origin::{Answer, AnyBody, Origin, Speaks};
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::Root;
use crate::rig::{routes, tools};
use crate::signing::servers::{Server, free};
use http::{Request, StatusCode};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

pub const PASSWORD: &str = "the-registry-password";
/// What the agent holds of it.
pub const STAND_IN: &str = "the-registry-standin0";

pub struct Registry {
    pub registry: Server,
    pub tokens: Server,
    /// Where blobs are redirected to.
    pub blobs: Origin,
}

impl Registry {
    pub async fn start(root: &Root, dir: &Path) -> Self {
        Self::named(root, dir, ["auth.test", "registry.test", "blobs.test"]).await
    }

    /// The same under these names: of its token service, its own, and of where its blobs are.
    pub async fn named(root: &Root, dir: &Path, [auth, name, blobs]: [&str; 3]) -> Self {
        let at = free().await;
        let mut service = Command::new(tools::python());
        bare(&mut service, dir);
        service
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/logins/scripts/tokens.py"
            ))
            .arg(at.port().to_string())
            .arg(dir);
        let tokens = Server::start(root, &[auth], service, at).await;
        let at = free().await;
        let stored = dir.join("stored");
        let config = format!(
            "version: 0.1\n\
             storage: {{ filesystem: {{ rootdirectory: {stored} }} }}\n\
             middleware: {{ storage: [{{ name: redirect, options: {{ baseurl: \"https://{blobs}/\" }} }}] }}\n\
             http: {{ addr: \"{at}\", host: \"https://{name}\", secret: unused }}\n\
             auth: {{ token: {{ realm: \"https://{auth}/token\", service: {name}, issuer: tokens, \
             rootcertbundle: {dir}/tokens.pem }} }}\n",
            stored = stored.display(),
            dir = dir.display(),
        );
        std::fs::write(dir.join("registry.yml"), config).unwrap();
        let mut registry = Command::new(tools::need("docker-registry"));
        bare(&mut registry, dir);
        registry.arg("serve").arg(dir.join("registry.yml"));
        let registry = Server::start(root, &[name], registry, at).await;
        let blob = move |request: Request<AnyBody>, _: Origin| -> Answer {
            let path = stored.join(request.uri().path().trim_start_matches('/'));
            Box::pin(async move { routes::bytes(std::fs::read(path).unwrap(), "application/octet-stream") })
        };
        let blobs = Origin::with(root, blobs, Speaks::Both, Arc::new(blob)).await;
        Self {
            registry,
            tokens,
            blobs,
        }
    }

    /// Has skopeo push the image in `dir` to `remote` and pull it back beside, without the password.
    async fn there_and_back(&self, rig: &Rig, dir: &Path, remote: &str) {
        let skopeo = tools::need("skopeo").to_str().unwrap().to_owned();
        let local = format!("oci:{}", dir.join("image").display());
        let back = format!("oci:{}", dir.join("back").display());
        for (from, to) in [(&*local, remote), (remote, &*back)] {
            let ran = rig
                .run(&[&skopeo, "--debug", "--insecure-policy", "copy", from, to])
                .await;
            assert!(ran.status.success(), "{}\n{}", ran.stderr, self.registry.running.log());
            ran.never_held(PASSWORD);
        }
    }

    pub fn rig(&self, root: &Root) -> Rig {
        Rig::new(root)
            .reach_as("auth.test", self.tokens.address)
            .reach_as("registry.test", self.registry.address)
            .reach(&self.blobs)
            .env("REGISTRY", PASSWORD)
            .secret_spec("registry", &format!("{{ env: REGISTRY, placeholder: {STAND_IN} }}"))
            .rule(
                "name: tokens, host: auth.test, allow: [\"GET /token\"], \
                 inject: [{ basic: { user: ci, password: registry } }], \
                 capture: { login: registry, tokens: [token, access_token, refresh_token] }",
            )
            .rule(
                "name: oauth, host: auth.test, allow: [\"POST /token\"], \
                 inject: [{ placeholder: registry, in: \"body:/password\" }], \
                 capture: { login: registry, tokens: [token, access_token, refresh_token] }",
            )
            .rule("name: registry, host: registry.test, inject: [{ login: registry }]")
            .rule("name: blobs, host: blobs.test")
    }
}

/// An image of one file, as the OCI's image layout has it.
fn image(dir: &Path) {
    let layer = dir.join("layer");
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::write(layer.join("hello"), "hello").unwrap();
    let script = r#"
import gzip, hashlib, json, os, subprocess, sys
out = sys.argv[1]
os.makedirs(f"{out}/blobs/sha256")
def put(data, kind):
    digest = hashlib.sha256(data).hexdigest()
    open(f"{out}/blobs/sha256/{digest}", "wb").write(data)
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}
layer = subprocess.run(["tar", "-c", "-C", sys.argv[2], "hello"], check=True, capture_output=True).stdout
rootfs = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}
config = put(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode(), "config.v1+json")
manifest = {"schemaVersion": 2, "config": config, "layers": [put(gzip.compress(layer), "layer.v1.tar+gzip")]}
index = {"schemaVersion": 2, "manifests": [put(json.dumps(manifest).encode(), "manifest.v1+json")]}
json.dump({"imageLayoutVersion": "1.0.0"}, open(f"{out}/oci-layout", "w"))
json.dump(index, open(f"{out}/index.json", "w"))
"#;
    let made = Command::new(tools::python())
        .args(["-c", script])
        .args([dir.join("image"), layer])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn skopeo_pushes_and_pulls_with_a_password_and_tokens_it_never_has() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(&root, dir.path()).await;
    image(dir.path());
    let rig = registry.rig(&root);
    registry
        .there_and_back(&rig, dir.path(), "docker://registry.test/acme/app:1")
        .await;
    let blob = |folder: &str| {
        let mut names: Vec<_> = std::fs::read_dir(dir.path().join(folder).join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(blob("image"), blob("back"));
    let records = rig.audit();
    let with = |name: &str| {
        records
            .iter()
            .filter(|one| one["credentials"].to_string().contains(name))
            .count()
    };
    assert!(
        with("registry/token") + with("registry/access_token") > 4,
        "{records:#?}"
    );
    assert!(with("\"registry\"") >= 2, "{records:#?}");
    // Where the registry sends the agent for a blob, no token goes.
    let fetched = registry.blobs.seen();
    assert!(!fetched.is_empty() && fetched.iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn the_preset_of_docker_hub_is_its_token_flow() {
    let (root, dir) = (Root::new(), tempfile::tempdir().unwrap());
    let names = [
        "auth.docker.io",
        "registry-1.docker.io",
        "production.cloudflare.docker.com",
    ];
    let registry = Registry::named(&root, dir.path(), names).await;
    image(dir.path());
    let rig = Rig::new(&root)
        .reach_as(names[0], registry.tokens.address)
        .reach_as(names[1], registry.registry.address)
        .reach(&registry.blobs)
        .env("DOCKERHUB_TOKEN", PASSWORD)
        .rule("preset: dockerhub, with: { user: ci }");
    registry
        .there_and_back(&rig, dir.path(), "docker://docker.io/acme/app:1")
        .await;
    assert!(!registry.blobs.seen().is_empty());
}

#[tokio::test]
async fn a_registrys_token_is_worth_nothing_past_keyferry_and_elsewhere() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(&root, dir.path()).await;
    let proxy = registry.rig(&root).serve().await;
    let url = "https://auth.test/token?service=registry.test&scope=repository:acme/app:pull";
    let said = proxy.agent.get(url).await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    let (token, same) = (said.json()["token"].clone(), said.json()["access_token"].clone());
    assert_eq!(token, same, "one token has one stand-in");
    let bearer = |url: &str| {
        let mut request = get(url);
        let shown = format!("Bearer {}", token.as_str().unwrap());
        request.headers_mut().insert("authorization", shown.parse().unwrap());
        request
    };
    let mut http = proxy.agent.h1("registry.test").await;
    let through = http.reply(bearer("https://registry.test/v2/")).await;
    assert_eq!(through.status, StatusCode::OK, "{}", registry.registry.running.log());
    let tcp = tokio::net::TcpStream::connect(registry.registry.plain).await.unwrap();
    let past = crate::rig::agent::Http::one(tcp)
        .await
        .reply(bearer("http://registry.test/v2/"))
        .await;
    assert_eq!(past.status, StatusCode::UNAUTHORIZED, "{}", past.text());
    let mut http = proxy.agent.h1("blobs.test").await;
    let elsewhere = http.reply(bearer("https://blobs.test/x")).await;
    assert_eq!(elsewhere.code(), "placeholder_misplaced");
    assert!(registry.blobs.seen().is_empty());
}
