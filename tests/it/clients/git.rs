//! git over smart HTTP, to git's own `http-backend`.

use super::{REAL, basic, credential_once};
use crate::rig::origin::{Answer, AnyBody, Origin, Service, Speaks};
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::Root;
use crate::rig::{routes, tools};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Runs `git http-backend` for each request that has the credential, as a web server would.
fn backend(root: PathBuf) -> Service {
    Arc::new(move |request, _| -> Answer {
        let root = root.clone();
        Box::pin(async move {
            if routes::basic(request.headers()) != Some(("x-access-token".into(), REAL.into())) {
                let refused = routes::empty(StatusCode::UNAUTHORIZED);
                return routes::with(refused, "www-authenticate", "Basic realm=\"git\"");
            }
            cgi(&root, request).await
        })
    })
}

async fn cgi(root: &Path, request: Request<AnyBody>) -> Response<AnyBody> {
    let (head, mut body) = request.into_parts();
    let header = |name: &str| {
        head.headers
            .get(name)
            .map_or(String::new(), |v| v.to_str().unwrap().to_owned())
    };
    let mut command = Command::new(tools::need("git"));
    bare(&mut command, root);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1");
    command
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path());
    command
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("REMOTE_USER", "x-access-token");
    command
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"));
    command
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = tokio::process::Command::from(command).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(piece) = frame.data_ref() else { continue };
            if stdin.write_all(piece).await.is_err() {
                break;
            }
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    parsed(&output.unwrap().stdout)
}

/// A CGI answer: headers, an empty line, the body.
fn parsed(output: &[u8]) -> Response<AnyBody> {
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("git http-backend gave no head");
    let mut response = Response::new(routes::full(Bytes::copy_from_slice(&output[end + 4..])));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = value[..3].parse().unwrap();
        } else {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            response
                .headers_mut()
                .append(name, HeaderValue::from_str(value).unwrap());
        }
    }
    response
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new(tools::need("git"));
    bare(&mut command, dir);
    let output = command.current_dir(dir).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A bare repository `acme/tools.git` with one commit on `main`.
fn repository(root: &Path) -> PathBuf {
    let bare = root.join("acme/tools.git");
    std::fs::create_dir_all(&bare).unwrap();
    git(&bare, &["init", "-q", "--bare", "-b", "main"]);
    git(&bare, &["config", "http.receivepack", "true"]);
    let work = root.join("seed");
    git(root, &["clone", "-q", bare.to_str().unwrap(), "seed"]);
    std::fs::write(work.join("README"), "first\n").unwrap();
    git(&work, &["add", "README"]);
    git(
        &work,
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.test",
            "commit",
            "-q",
            "-m",
            "first",
        ],
    );
    git(&work, &["push", "-q", "origin", "HEAD:main"]);
    bare
}

#[tokio::test]
async fn git_clones_fetches_and_pushes_with_a_password_it_never_had() {
    let root = Root::new();
    let served = tempfile::tempdir().unwrap();
    let bare = repository(served.path());
    let origin = Origin::with(&root, "git.test", Speaks::Both, backend(served.path().to_owned())).await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", REAL).rule(
        "host: git.test, allow: [\"* /acme/**\"], inject: [{ basic: { user: x-access-token, password: api_key } }]",
    );
    // More than git's post buffer, so that it probes first and then streams chunks.
    let script = "git clone -q https://git.test/acme/tools.git w && cd w && \
        head -c 3000000 /dev/urandom >blob && git add blob && \
        git -c user.name=t -c user.email=t@example.test commit -q -m second && \
        git push -q origin HEAD:refs/heads/topic && git fetch -q origin && cat README && \
        git rev-parse HEAD origin/topic";

    let ran = rig.run(&["/bin/sh", "-c", script]).await.ok();

    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!((lines[0], lines[1]), ("first", lines[2]));
    assert_eq!(git(&bare, &["rev-parse", "topic"]).trim(), lines[1]);
    git(&bare, &["fsck", "--strict"]);
    let seen = origin.seen();
    for service in ["git-upload-pack", "git-receive-pack"] {
        let posted = |one: &&_| {
            matches!(one, crate::rig::origin::Received { method, target, .. }
            if method == "POST" && target.ends_with(service))
        };
        assert!(seen.iter().find(posted).is_some(), "no {service} among {seen:#?}");
    }
    assert!(seen.iter().any(|one| one.body_bytes > 3_000_000));
    let expected = basic("x-access-token", REAL);
    seen.iter()
        .for_each(|one| credential_once(one, &ran, "authorization", &expected));
}

#[tokio::test]
async fn a_repository_outside_the_rule_is_refused_before_the_origin_hears_of_it() {
    let root = Root::new();
    let served = tempfile::tempdir().unwrap();
    let origin = Origin::with(&root, "git.test", Speaks::Both, backend(served.path().to_owned())).await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", REAL).rule(
        "host: git.test, allow: [\"* /acme/**\"], inject: [{ basic: { user: x-access-token, password: api_key } }]",
    );
    let ran = rig
        .run(&["git", "clone", "-q", "https://git.test/other/tools.git", "w"])
        .await;
    assert!(!ran.status.success() && ran.stderr.contains("403"), "{}", ran.stderr);
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn git_answers_a_407_on_the_same_connection_when_it_clones_and_when_it_pushes() {
    let root = Root::new();
    let served = tempfile::tempdir().unwrap();
    let bare = repository(served.path());
    let origin = Origin::with(&root, "git.test", Speaks::Both, backend(served.path().to_owned())).await;
    let rule = "host: git.test, inject: [{ basic: { user: x-access-token, password: api_key } }]";
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", REAL).rule(rule);
    let rig = rig
        .secret("CI_TOKEN", "agent-token-91b2c3")
        .config("agents: { ci: { token: ci_token } }");
    let proxy = rig.serve().await;
    let push = "cd w && echo more >>README && git -c user.name=t -c user.email=t@example.test commit -q -a -m more && \
        git push -q origin HEAD:refs/heads/topic";
    for script in ["git clone -q https://git.test/acme/tools.git w", push] {
        let tap = crate::rig::tap::Tap::before(proxy.address).await;
        let mut shell = proxy.client("sh");
        shell.args(["-c", script]).env("GIT_SSL_CAINFO", &proxy.ca);
        shell.env("HTTPS_PROXY", format!("http://ci:agent-token-91b2c3@{}", tap.address));
        // Without this git does not wait to be asked.
        shell.env("GIT_HTTP_PROXY_AUTHMETHOD", "anyauth");
        let (fine, said) = crate::rig::proxy::ended(shell).await;
        assert!(fine, "{said}");
        let lines = tap.lines();
        assert!(!lines.is_empty());
        for line in &lines {
            crate::identity::asked_twice(line, "CONNECT git.test:443 HTTP/1.1\r\n");
        }
    }
    assert!(git(&bare, &["log", "--format=%s", "topic"]).starts_with("more"));
}
