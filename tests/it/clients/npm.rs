//! npm, to a private registry that wants a token.

use super::{REAL, credential_once};
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{routes, tools};
use base64::Engine;
use http::StatusCode;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// `folder` as a gzipped tar.
pub fn archive(parent: &Path, folder: &str) -> Vec<u8> {
    let mut tar = Command::new(tools::need("tar"));
    let output = tar.arg("-C").arg(parent).args(["-czf", "-", folder]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn package() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("package");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("package.json"),
        r#"{"name":"@acme/probe","version":"1.0.0","main":"index.js"}"#,
    )
    .unwrap();
    std::fs::write(folder.join("index.js"), "module.exports = 42;\n").unwrap();
    archive(dir.path(), "package")
}

#[tokio::test]
async fn npm_installs_from_a_private_registry() {
    let root = Root::new();
    let package = package();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &package);
    let integrity = format!("sha512-{}", base64::engine::general_purpose::STANDARD.encode(digest));
    let origin = Origin::with(
        &root,
        "npm.test",
        Speaks::Both,
        Arc::new(move |request, _| -> Answer {
            let (package, integrity) = (package.clone(), integrity.clone());
            Box::pin(async move {
                if request
                    .headers()
                    .get("authorization")
                    .is_none_or(|value| value != &format!("Bearer {REAL}"))
                {
                    return routes::empty(StatusCode::UNAUTHORIZED);
                }
                match request.uri().path() {
                    // npm writes the scope's slash so, and a registry looks for it so.
                    "/@acme%2fprobe" => routes::json(&serde_json::json!({
                        "name": "@acme/probe", "dist-tags": { "latest": "1.0.0" },
                        "versions": { "1.0.0": { "name": "@acme/probe", "version": "1.0.0", "dist": {
                            "tarball": "https://npm.test/@acme/probe/-/probe-1.0.0.tgz", "integrity": integrity } } },
                    })),
                    "/@acme/probe/-/probe-1.0.0.tgz" => routes::bytes(package, "application/octet-stream"),
                    _ => routes::empty(StatusCode::NOT_FOUND),
                }
            })
        }),
    )
    .await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", REAL)
        .rule("host: npm.test, inject: [{ bearer: api_key }]");
    std::fs::write(rig.dir().join("package.json"), "{}").unwrap();
    let npm = [
        "npm",
        "install",
        "--registry",
        "https://npm.test/",
        "--no-audit",
        "--no-fund",
        "@acme/probe",
    ];

    let ran = rig.run(&npm).await.ok();

    let module = std::fs::read_to_string(rig.dir().join("node_modules/@acme/probe/index.js")).unwrap();
    assert_eq!(module, "module.exports = 42;\n");
    let seen = origin.seen();
    assert_eq!(seen.len(), 2, "{seen:#?}");
    seen.iter()
        .for_each(|one| credential_once(one, &ran, "authorization", &format!("Bearer {REAL}")));
}
