//! Node: 20 reads no proxy variable at all, 24 reads them when told to. Both run unchanged programs.

use super::{REAL, api, api_speaking, credential_once};
use crate::rig::origin::Speaks;
use crate::rig::tools;
use std::path::Path;

/// Node as the machine has it, and the newer one from npm.
fn nodes() -> [String; 2] {
    let newer = tools::npm(".bin/node").canonicalize().unwrap();
    [tools::need("node"), newer].map(|path| path.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn each_way_out_of_node_gets_its_answer() {
    let (origin, rig) = api().await;
    std::fs::write(rig.dir().join("client.cjs"), include_str!("scripts/client.cjs")).unwrap();
    let packages = tools::npm("ws").parent().map(Path::to_path_buf).unwrap();
    for node in nodes() {
        for how in ["fetch", "https", "undici"] {
            let ran = rig
                .run(&[node.as_str(), "client.cjs", how, packages.to_str().unwrap()])
                .await
                .ok();
            assert_eq!(ran.stdout, format!("{how} 200 from node\n"), "{node}: {}", ran.stderr);
            credential_once(&origin.seen().pop().unwrap(), &ran, "x-api-key", REAL);
        }
    }
}

#[tokio::test]
async fn a_websocket_from_node_gets_its_echo() {
    // An origin of both protocols is asked over HTTP/2 where the proxy has such a connection, one of
    // HTTP/1.1 by an upgrade; the client must not notice.
    for speaks in [Speaks::Http1, Speaks::Both] {
        let (origin, rig) = api_speaking(speaks).await;
        std::fs::write(rig.dir().join("client.cjs"), include_str!("scripts/client.cjs")).unwrap();
        let packages = tools::npm("ws").parent().map(Path::to_path_buf).unwrap();
        for node in nodes() {
            let ran = rig
                .run(&[node.as_str(), "client.cjs", "ws", packages.to_str().unwrap()])
                .await
                .ok();
            assert_eq!(ran.stdout, "ws 101 from node\n", "{node}: {}", ran.stderr);
            credential_once(&origin.seen().pop().unwrap(), &ran, "x-api-key", REAL);
        }
    }
}

#[tokio::test]
async fn node_reads_events_as_a_stream() {
    let (origin, rig) = api().await;
    std::fs::write(rig.dir().join("client.cjs"), include_str!("scripts/client.cjs")).unwrap();
    origin.gate.add_permits(2);
    let ran = rig.run(&["node", "client.cjs", "sse"]).await.ok();
    assert_eq!(ran.stdout, "sse 200 \"data: 0\\n\\ndata: 1\\n\\n\"\n");
}
