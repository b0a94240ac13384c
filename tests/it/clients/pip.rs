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

/// An index with one package, for whoever has the password.
async fn index(root: &Root) -> Origin {
    let wheel = wheel();
    let digest = routes::sha256(&wheel);
    Origin::with(
        root,
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
    .await
}

const INSTALL: &[&str] = &[
    "-m",
    "pip",
    "--no-input",
    "install",
    "--no-deps",
    "--target",
    "installed",
    "--index-url",
    "https://pypi.test/simple/",
    "keyferry-probe",
];

#[tokio::test]
async fn pip_installs_from_a_private_index() {
    let root = Root::new();
    let origin = index(&root).await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", REAL)
        .rule("host: pypi.test, inject: [{ basic: { user: __token__, password: api_key } }]");
    let python = tools::python();
    let argv = [&[python.to_str().unwrap()], INSTALL].concat();

    let ran = rig.run(&argv).await.ok();

    let module = std::fs::read_to_string(rig.dir().join("installed/keyferry_probe.py")).unwrap();
    assert_eq!(module, "ANSWER = 42\n");
    let seen = origin.seen();
    assert_eq!(seen.len(), 2, "{seen:#?}");
    seen.iter()
        .for_each(|one| credential_once(one, &ran, "authorization", &basic("__token__", REAL)));
}

#[tokio::test]
async fn pip_shows_the_token_of_its_proxy_url_and_says_what_is_wrong_without() {
    let root = Root::new();
    let origin = index(&root).await;
    let rule = "host: pypi.test, inject: [{ basic: { user: __token__, password: api_key } }]";
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", REAL).rule(rule);
    let rig = rig
        .secret("CI_TOKEN", "agent-token-91b2c3")
        .config("agents: { ci: { token: ci_token } }");
    let proxy = rig.serve().await;
    for (user, works) in [("", false), ("ci:wrong@", false), ("ci:agent-token-91b2c3@", true)] {
        let tap = crate::rig::tap::Tap::before(proxy.address).await;
        let mut pip = proxy.client(tools::python());
        pip.args(INSTALL).args(["--retries", "1", "--cert"]).arg(&proxy.ca);
        pip.args(["--proxy", &format!("http://{user}{}", tap.address)]);
        let (fine, said) = crate::rig::proxy::ended(pip).await;
        assert_eq!(fine, works, "{user}: {said}");
        assert!(
            works || said.contains("407 Proxy Authentication Required"),
            "{user}: {said}"
        );
        assert_eq!(origin.seen().is_empty(), !works);
        let offered = tap
            .lines()
            .iter()
            .all(|line| line.contains("Proxy-Authorization: Basic "));
        assert_eq!(offered, !user.is_empty());
    }
}
