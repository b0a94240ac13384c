//! cargo, to a private sparse registry that wants a token.

use super::{REAL, credential_once};
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::routes;
use http::StatusCode;
use std::path::Path;
use std::sync::Arc;

const MANIFEST: &str = "[package]\nname = \"keyferry-probe\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";

fn package() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("keyferry-probe-1.0.0");
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::write(folder.join("Cargo.toml"), MANIFEST).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "pub const ANSWER: u32 = 42;\n").unwrap();
    super::npm::archive(dir.path(), "keyferry-probe-1.0.0")
}

fn consumer(dir: &Path) {
    std::fs::create_dir_all(dir.join(".cargo")).unwrap();
    std::fs::create_dir_all(dir.join("src")).unwrap();
    let registry = "[registries.private]\nindex = \"sparse+https://crates.test/index/\"\n";
    std::fs::write(dir.join(".cargo/config.toml"), registry).unwrap();
    let manifest = "[package]\nname = \"consumer\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
        [dependencies]\nkeyferry-probe = { version = \"1\", registry = \"private\" }\n";
    std::fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(dir.join("src/lib.rs"), "pub use keyferry_probe::ANSWER;\n").unwrap();
}

#[tokio::test]
async fn cargo_fetches_from_a_private_registry() {
    let root = Root::new();
    let package = package();
    let checksum = routes::sha256(&package);
    let origin = Origin::with(
        &root,
        "crates.test",
        Speaks::Both,
        Arc::new(move |request, _| -> Answer {
            let (package, checksum) = (package.clone(), checksum.clone());
            Box::pin(async move {
                if request.headers().get("authorization").is_none_or(|value| value != REAL) {
                    return routes::empty(StatusCode::UNAUTHORIZED);
                }
                match request.uri().path() {
                    "/index/config.json" => routes::json(&serde_json::json!({ "dl": "https://crates.test/dl" })),
                    "/index/ke/yf/keyferry-probe" => routes::json(&serde_json::json!({
                        "name": "keyferry-probe", "vers": "1.0.0", "deps": [], "cksum": checksum,
                        "features": {}, "yanked": false,
                    })),
                    "/dl/keyferry-probe/1.0.0/download" => routes::bytes(package, "application/gzip"),
                    _ => routes::empty(StatusCode::NOT_FOUND),
                }
            })
        }),
    )
    .await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", REAL)
        .rule("host: crates.test, inject: [{ header: authorization, value: \"${api_key}\" }]");
    consumer(rig.dir());

    let ran = rig.run(&["cargo", "fetch"]).await.ok();

    let lock = std::fs::read_to_string(rig.dir().join("Cargo.lock")).unwrap();
    assert!(lock.contains("keyferry-probe"), "{lock}");
    let seen = origin.seen();
    assert!(seen.iter().any(|one| one.target.starts_with("/dl/")), "{seen:#?}");
    seen.iter()
        .for_each(|one| credential_once(one, &ran, "authorization", REAL));
}
