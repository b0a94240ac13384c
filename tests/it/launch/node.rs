//! A Node that reads no proxy variable still goes through the proxy, by the preload.

use super::passing::Passing;
use super::{given, made};
use crate::rig::tools;
use std::process::Command;
use tempfile::tempdir;

/// Runs `script` under the environment of a run; gives its output and what the proxy was asked.
fn node(script: &str) -> (String, Vec<String>) {
    let passing = Passing::start();
    let dir = tempdir().unwrap();
    let mut given = given(
        &format!("http://ci:tok@{}", passing.address),
        &dir.path().join("a \"b").parent().unwrap().join("with space"),
    );
    given.ca_pem = dir.path().join("root.pem");
    std::fs::write(&given.ca_pem, &passing.root).unwrap();
    // The caller's own options stay in force before ours.
    let env = made(&[("NODE_OPTIONS", "--stack-trace-limit=7")], &given);
    let script = format!("(async () => {{ {COMMON} {script} }})()");
    let output = Command::new(tools::need("node"))
        .args(["-e", &script])
        .env_clear()
        .envs(env)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (said, passing.asked())
}

const COMMON: &str = "
    const http = require('http'), https = require('https'), tls = require('tls');
    const get = (module, url, options) => new Promise((done) => {
        const request = module.request(url, options || {}, (response) => {
            let text = '';
            response.on('data', (chunk) => (text += chunk));
            response.on('end', () => done(text));
        });
        request.on('error', (error) => done(error.code + ' ' + error.message));
        request.end(options && options.body);
    });
";

/// `ci:tok`, as Basic has it.
const SHOWN: &str = "Basic Y2k6dG9r";

#[test]
fn https_and_fetch_go_through_one_tunnel_each() {
    let (said, asked) = node(
        "console.log(await get(https, 'https://api.test/a'));
         console.log(await get(https, 'https://api.test/b'));
         console.log(await (await fetch('https://api.test/c', {method: 'POST', body: 'x'.repeat(300000)})).text());
         console.log(Error.stackTraceLimit);",
    );
    assert_eq!(
        said,
        "GET /a HTTP/1.1 0\nGET /b HTTP/1.1 0\nPOST /c HTTP/1.1 300000\n7\n"
    );
    let tunnel = format!("CONNECT api.test:443 {SHOWN}");
    // fetch has connections of its own; https keeps one.
    assert_eq!(asked, [tunnel.clone(), tunnel]);
}

#[test]
fn sockets_that_libraries_open_by_themselves_are_tunnelled_too() {
    let (said, asked) = node(
        "const own = (options) => tls.connect(options);
         console.log(await get(https, 'https://api.test/ws', {createConnection: own}));
         console.log(await get(https, 'https://api.test/agent', {agent: new https.Agent({keepAlive: true})}));
         const socket = tls.connect(8443, 'other.test', () => { console.log(socket.authorized, socket.servername); socket.destroy(); });",
    );
    assert_eq!(said, "GET /ws HTTP/1.1 0\nGET /agent HTTP/1.1 0\ntrue other.test\n");
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!(asked[2], format!("CONNECT other.test:8443 {SHOWN}"));
}

#[test]
fn plain_http_is_asked_of_the_proxy_in_absolute_form() {
    let (said, asked) = node(
        "console.log(await get(http, 'http://plain.test/a?b=1'));
         console.log(await get(http, 'http://plain.test:81/l', {method: 'POST', headers: ['Host', 'plain.test:81', 'Content-Length', '3'], body: 'abc'}));
         console.log(await (await fetch('http://plain.test/f')).text());",
    );
    assert_eq!(
        said,
        "GET http://plain.test/a?b=1 HTTP/1.1 0\nPOST http://plain.test:81/l HTTP/1.1 3\nGET http://plain.test/f HTTP/1.1 0\n"
    );
    assert!(asked.iter().all(|ask| ask.ends_with(SHOWN)), "{asked:?}");
}

#[test]
fn loopback_is_reached_directly() {
    let (said, asked) = node(
        "const server = http.createServer((request, response) => response.end('mine')).listen(0, async () => {
             const at = ':' + server.address().port + '/';
             console.log(await get(http, 'http://localhost' + at), await (await fetch('http://127.0.0.1' + at)).text());
             server.close(); server.closeAllConnections();
         });",
    );
    assert_eq!((said.as_str(), asked), ("mine mine\n", Vec::new()));
}

#[test]
fn a_refusal_tells_the_program_why() {
    let (said, _) = node(
        "console.log(await get(https, 'https://denied.test/'));
         await fetch('https://denied.test/').catch((error) => console.log(error.cause.reason));",
    );
    let why = "ERR_PROXY_TUNNEL the proxy refused denied.test:443: no rule allows it; ask for one\n";
    assert_eq!(said, format!("{why}denied_by_policy\n"));
}
