//! Java's two HTTP clients. Neither reads a proxy variable nor PEM: `run` sets `JAVA_TOOL_OPTIONS`.

use super::{REAL, api, credential_once};

#[tokio::test]
async fn both_java_clients_get_their_answers() {
    let (origin, rig) = api().await;
    std::fs::write(rig.dir().join("Client.java"), include_str!("scripts/Client.java")).unwrap();
    let ran = rig.run(&["java", "Client.java", "https://api.test/java"]).await.ok();
    assert_eq!(ran.stdout, "HttpClient HTTP_2 200\nHttpURLConnection 200\n");
    let seen = origin.seen();
    assert_eq!(seen.len(), 2, "{seen:#?}");
    seen.iter()
        .for_each(|one| credential_once(one, &ran, "x-api-key", REAL));
}
