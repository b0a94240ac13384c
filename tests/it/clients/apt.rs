//! apt, to a private archive that wants a password. It keeps its state in the test's own folder.

use super::{REAL, basic, credential_once};
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{routes, tools};
use http::StatusCode;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const CONTROL: &str = "Package: keyferry-probe\nVersion: 1.0\nArchitecture: all\n\
    Maintainer: Tests <tests@example.test>\nDescription: nothing\n";

fn package() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    std::fs::write(tree.join("DEBIAN/control"), CONTROL).unwrap();
    let deb = dir.path().join("probe.deb");
    let built = Command::new(tools::need("dpkg-deb"))
        .arg("-b")
        .arg(&tree)
        .arg(&deb)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(deb).unwrap()
}

/// Options that keep apt away from the machine's own lists, locks and packages.
fn own_folders(dir: &Path) -> Vec<String> {
    for folder in ["apt/lists/partial", "apt/cache/archives/partial"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    std::fs::write(dir.join("apt/status"), "").unwrap();
    std::fs::write(
        dir.join("apt/sources.list"),
        "deb [trusted=yes] https://apt.test/repo ./\n",
    )
    .unwrap();
    let at = |name: &str| dir.join("apt").join(name).display().to_string();
    [
        format!("Dir::State={}", at("")),
        format!("Dir::State::lists={}", at("lists")),
        format!("Dir::State::status={}", at("status")),
        format!("Dir::Cache={}", at("cache")),
        format!("Dir::Etc::sourcelist={}", at("sources.list")),
        "Dir::Etc::sourceparts=-".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=0".to_owned(),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect()
}

#[tokio::test]
async fn apt_updates_and_downloads_from_a_private_archive() {
    let root = Root::new();
    let package = package();
    let index = format!(
        "{CONTROL}Filename: ./probe.deb\nSize: {}\nSHA256: {}\n",
        package.len(),
        routes::sha256(&package)
    );
    let release = format!(
        "Suite: probe\nSHA256:\n {} {} Packages\n",
        routes::sha256(index.as_bytes()),
        index.len()
    );
    let served = package.clone();
    let origin = Origin::with(
        &root,
        "apt.test",
        Speaks::Both,
        Arc::new(move |request, _| -> Answer {
            let (package, index, release) = (served.clone(), index.clone(), release.clone());
            Box::pin(async move {
                if routes::basic(request.headers()) != Some(("apt".into(), REAL.into())) {
                    return routes::empty(StatusCode::UNAUTHORIZED);
                }
                match request.uri().path().trim_start_matches("/repo/./") {
                    "Release" => routes::bytes(release, "text/plain"),
                    "Packages" => routes::bytes(index, "text/plain"),
                    "probe.deb" => routes::bytes(package, "application/octet-stream"),
                    _ => routes::empty(StatusCode::NOT_FOUND),
                }
            })
        }),
    )
    .await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", REAL)
        .rule("host: apt.test, inject: [{ basic: { user: apt, password: api_key } }]");
    let options = own_folders(rig.dir());
    let apt = |verb: &[&str]| {
        [
            vec!["apt-get".to_owned()],
            options.clone(),
            verb.iter().map(ToString::to_string).collect(),
        ]
        .concat()
    };

    rig.run(&apt(&["-qq", "update"])).await.ok();
    let ran = rig.run(&apt(&["-qq", "download", "keyferry-probe"])).await.ok();

    assert_eq!(
        std::fs::read(rig.dir().join("keyferry-probe_1.0_all.deb")).unwrap(),
        package
    );
    // apt sends its proxy credential to the origin too; `credential_once` sees that it stays here.
    origin
        .seen()
        .iter()
        .for_each(|one| credential_once(one, &ran, "authorization", &basic("apt", REAL)));
}
