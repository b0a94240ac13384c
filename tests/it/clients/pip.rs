//! pip, to a private index that wants a password.

use super::{REAL, basic, credential_once};
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{routes, tools};
use http::StatusCode;
use std::process::Command;
use std::sync::Arc;

const WHEEL: &str = "keyferry_probe-1.0-py3-none-any.whl";

/// The smallest wheel there is.
fn wheel() -> Vec<u8> {
    let script = "import io,sys,zipfile\n\
        b=io.BytesIO(); z=zipfile.ZipFile(b,'w'); d='keyferry_probe-1.0.dist-info/'\n\
        z.writestr('keyferry_probe.py','ANSWER = 42\\n')\n\
        z.writestr(d+'METADATA','Metadata-Version: 2.1\\nName: keyferry-probe\\nVersion: 1.0\\n')\n\
        z.writestr(d+'WHEEL','Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
        z.writestr(d+'RECORD',''); z.close(); sys.stdout.buffer.write(b.getvalue())";
    let output = Command::new(tools::python()).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn pip_installs_from_a_private_index() {
    let root = Root::new();
    let wheel = wheel();
    let digest = routes::sha256(&wheel);
    let origin = Origin::with(
        &root,
        "pypi.test",
        Speaks::Both,
        Arc::new(move |request, _| -> Answer {
            let (wheel, digest) = (wheel.clone(), digest.clone());
            Box::pin(async move {
                if routes::basic(request.headers()) != Some(("__token__".into(), REAL.into())) {
                    return routes::empty(StatusCode::UNAUTHORIZED);
                }
                match request.uri().path() {
                    "/simple/keyferry-probe/" => {
                        let page = format!("<!DOCTYPE html><a href=\"/files/{WHEEL}#sha256={digest}\">{WHEEL}</a>");
                        routes::bytes(page, "text/html")
                    }
                    path if path == format!("/files/{WHEEL}") => routes::bytes(wheel, "application/octet-stream"),
                    _ => routes::empty(StatusCode::NOT_FOUND),
                }
            })
        }),
    )
    .await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", REAL)
        .rule("host: pypi.test, inject: [{ basic: { user: __token__, password: api_key } }]");
    let python = tools::python();
    let pip = [
        python.to_str().unwrap(),
        "-m",
        "pip",
        "--no-input",
        "install",
        "--no-deps",
        "--target",
        "installed",
    ];
    let argv = [
        &pip[..],
        &["--index-url", "https://pypi.test/simple/", "keyferry-probe"],
    ]
    .concat();

    let ran = rig.run(&argv).await.ok();

    let module = std::fs::read_to_string(rig.dir().join("installed/keyferry_probe.py")).unwrap();
    assert_eq!(module, "ANSWER = 42\n");
    let seen = origin.seen();
    assert_eq!(seen.len(), 2, "{seen:#?}");
    seen.iter()
        .for_each(|one| credential_once(one, &ran, "authorization", &basic("__token__", REAL)));
}
