//! What `docs/mtls.md` says, done.

use super::write;
use crate::pages;
use crate::rig::nginx::Nginx;
use crate::rig::proxy::Rig;
use crate::rig::root::{Root, Validity};

const SERVER: &str = "
  server {
    listen ADDRESS ssl http2; server_name api.partner.example; ssl_certificate DIR/server.pem;
    ssl_certificate_key DIR/server.key; ssl_client_certificate DIR/clients.pem; ssl_verify_client on;
    location / { return 200 \"$ssl_client_verify\\n\"; }
  }";

#[tokio::test]
async fn the_page_on_client_certificates_can_be_followed() {
    let (root, clients) = (Root::new(), Root::new());
    let rig = Rig::new(&root);
    write(rig.dir(), "server", &root.leaf(&["api.partner.example"], Validity::Now));
    write(rig.dir(), "client", &clients.client(&["keyferry"], Validity::Now));
    std::fs::write(rig.dir().join("clients.pem"), clients.pem()).unwrap();
    let (_nginx, address) = Nginx::start(rig.dir(), SERVER).await;
    let (config, listen) = pages::served(&rig, "mtls.md", "api.partner.example", address);
    let output = pages::run(&rig, "mtls.md", &config, &[("127.0.0.1:8080", &listen)]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("the client certificate `partner`, shown in the TLS handshake"),
        "{said}"
    );
    assert!(said.ends_with("SUCCESS\n"), "{said}");
}
