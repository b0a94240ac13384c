//! Go's net/http, with the client every Go program has: `http.DefaultClient`.

use super::{REAL, api, credential_once};
use crate::rig::tools;
use std::process::Command;

#[tokio::test]
async fn a_go_program_gets_its_answer_over_http_2() {
    let (origin, rig) = api().await;
    let client = rig.dir().join("client");
    std::fs::write(rig.dir().join("main.go"), include_str!("scripts/client.go")).unwrap();
    let mut build = Command::new(tools::need("go"));
    crate::rig::proxy::bare(&mut build, rig.dir());
    build
        .current_dir(rig.dir())
        .env("GO111MODULE", "off")
        .env("GOCACHE", tools::installed().join("go"));
    let built = build
        .args(["build", "-o"])
        .arg(&client)
        .arg("main.go")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let ran = rig.run(&[client.to_str().unwrap(), "https://api.test/go"]).await.ok();
    assert!(ran.stdout.starts_with("HTTP/2.0 200 "), "{}", ran.stdout);
    let seen = origin.only();
    assert_eq!((seen.method.as_str(), seen.body.as_slice()), ("POST", &b"from go"[..]));
    credential_once(&seen, &ran, "x-api-key", REAL);
}
