//! Python's HTTP libraries, each trusting and finding the proxy in its own way.

use super::{REAL, api, api_speaking, credential_once};
use crate::rig::origin::Speaks;
use crate::rig::proxy::{Ran, Rig};
use crate::rig::tools;

async fn client(rig: &Rig, way: &str) -> Ran {
    std::fs::write(rig.dir().join("client.py"), include_str!("scripts/client.py")).unwrap();
    rig.run(&[tools::python().to_str().unwrap(), "client.py", way])
        .await
        .ok()
}

#[tokio::test]
async fn each_library_of_python_gets_its_answer() {
    let (origin, rig) = api().await;
    for (way, answer) in [
        ("urllib", "200"),
        ("requests", "200"),
        ("httpx", "200 HTTP/2"),
        ("aiohttp", "200"),
        ("strict_verification", "200"),
    ] {
        let ran = client(&rig, way).await;
        assert_eq!(ran.stdout.trim(), answer, "{way}: {}", ran.stderr);
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.body, b"from python", "{way}");
        credential_once(&seen, &ran, "x-api-key", REAL);
    }
}

#[tokio::test]
async fn a_websocket_from_python_gets_its_echo() {
    for speaks in [Speaks::Http1, Speaks::Both] {
        let (origin, rig) = api_speaking(speaks).await;
        let ran = client(&rig, "websockets").await;
        assert_eq!(ran.stdout.trim(), "from python 100000");
        credential_once(&origin.seen().pop().unwrap(), &ran, "x-api-key", REAL);
    }
}
