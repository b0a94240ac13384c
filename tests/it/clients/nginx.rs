//! A cross-check of the origin's side: nginx, which shares no code with the proxy or the rig.

use super::{REAL, basic};
use crate::rig::nginx::Nginx;
use crate::rig::proxy::Rig;
use crate::rig::root::{Root, Validity};
use crate::rig::routes;
use std::net::SocketAddr;
use std::path::Path;

const SERVER: &str = "gzip on; gzip_types text/plain; gzip_min_length 1;
  server {
    listen ADDRESS ssl http2; server_name files.test; root DIR/www;
    ssl_certificate DIR/chain.pem; ssl_certificate_key DIR/key.pem;
    auth_basic private; auth_basic_user_file DIR/users;
  }";

async fn start(root: &Root, dir: &Path) -> (Nginx, SocketAddr) {
    let pem = root.leaf(&["files.test"], Validity::Now);
    std::fs::create_dir(dir.join("www")).unwrap();
    std::fs::write(dir.join("www/text"), "line of text\n".repeat(1000)).unwrap();
    std::fs::write(dir.join("www/big"), [&routes::PIECE[..]; 80].concat()).unwrap();
    std::fs::write(dir.join("chain.pem"), pem.chain).unwrap();
    std::fs::write(dir.join("key.pem"), pem.key).unwrap();
    std::fs::write(dir.join("users"), format!("agent:{{PLAIN}}{REAL}\n")).unwrap();
    Nginx::start(dir, SERVER).await
}

#[tokio::test]
async fn nginx_serves_ranges_compression_and_conditions_through_the_proxy() {
    let root = Root::new();
    let rig = Rig::new(&root).secret("API_KEY", REAL);
    let (_nginx, address) = start(&root, rig.dir()).await;
    let rig = rig
        .reach_as("files.test", address)
        .rule("host: files.test, inject: [{ basic: { user: agent, password: api_key } }]");
    let script = "set -e; u=https://files.test
        curl -sS --http1.1 $u/big -o whole; cmp whole www/big
        curl -sS --http2 -r 100000-299999 -w '%{http_code} ' $u/big -o part
        head -c 300000 www/big | tail -c 200000 | cmp - part
        curl -sS --compressed -D head $u/text -o text; cmp text www/text
        tag=$(sed -n 's/^etag: *\\(.*\\)\\r$/\\1/ip' head)
        curl -sS -H \"If-None-Match: $tag\" -w '%{http_code} %{size_download} ' $u/text
        curl -sS -I -w '%{http_code} ' $u/big | grep -i '^content-length:\\|^[0-9]' | tr -d '\\r'
        curl -sS -T part -w '%{http_code}' -o denied $u/part";

    let ran = rig.run(&["/bin/sh", "-c", script]).await.ok();

    let told: Vec<_> = ran.stdout.split_whitespace().collect();
    assert_eq!(
        told,
        ["206", "304", "0", "content-length:", "5242880", "200", "405"],
        "{}",
        ran.stderr
    );
    ran.never_held(&basic("agent", REAL));
    let records = rig.audit();
    assert!(records.iter().any(|one| one["protocol_out"] == "h2"), "{records:#?}");
}
