//! wget, which reads its trust from a file that `run` names in `WGETRC`.

use super::{REAL, api, credential_once};

#[tokio::test]
async fn wget_gets_its_answer_and_follows_a_redirect() {
    let (origin, rig) = api().await;
    let ran = rig
        .run(&["wget", "-q", "-O", "-", "https://api.test/redirect"])
        .await
        .ok();
    assert_eq!(ran.stdout, "hello");
    let seen = origin.seen();
    assert_eq!(
        seen.iter().map(|one| one.target.as_str()).collect::<Vec<_>>(),
        ["/redirect", "/hello"]
    );
    seen.iter()
        .for_each(|one| credential_once(one, &ran, "x-api-key", REAL));
}

#[tokio::test]
async fn wget_saves_a_download_whole() {
    let (_, rig) = api().await;
    rig.run(&[
        "wget",
        "-q",
        "-O",
        "file",
        "https://api.test/download?bytes=5000000&length",
    ])
    .await
    .ok();
    assert_eq!(std::fs::metadata(rig.dir().join("file")).unwrap().len(), 5_000_000);
}
