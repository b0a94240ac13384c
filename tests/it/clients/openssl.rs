//! openssl's own client: strict about certificates, silent about HTTP.

use super::{REAL, api, credential_once};

#[tokio::test]
async fn openssl_accepts_the_certificate_in_each_tls_version() {
    let (origin, rig) = api().await;
    for version in ["-tls1_2", "-tls1_3"] {
        let script = format!(
            "proxy=${{HTTPS_PROXY#http://}}; proxy=${{proxy#*@}}; \
             printf 'GET /hello HTTP/1.1\\r\\nHost: api.test\\r\\nConnection: close\\r\\n\\r\\n' | \
             openssl s_client {version} -proxy \"${{proxy%/}}\" -connect api.test:443 -servername api.test \
             -verify_return_error -verify_hostname api.test -x509_strict -ign_eof"
        );
        let ran = rig.run(&["/bin/sh", "-c", &script]).await.ok();
        assert!(
            ran.stdout.contains("Verify return code: 0 (ok)"),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
        assert!(ran.stdout.contains("\r\n\r\nhello"), "{}", ran.stdout);
        credential_once(&origin.seen().pop().unwrap(), &ran, "x-api-key", REAL);
    }
}
