//! hudsucker as a proxy that adds one `Authorization`: LISTEN CA KEY ROOTS VALUE.

use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::hyper::Request;
use hudsucker::hyper::header::{AUTHORIZATION, HeaderValue};
use hudsucker::rcgen::{Issuer, KeyPair};
use hudsucker::rustls::crypto::aws_lc_rs::default_provider;
use hudsucker::{Body, HttpContext, HttpHandler, Proxy, RequestOrResponse};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::fs::read_to_string;
use std::sync::Arc;

#[derive(Clone)]
struct Adds(HeaderValue);

impl HttpHandler for Adds {
    async fn handle_request(&mut self, _: &HttpContext, mut request: Request<Body>) -> RequestOrResponse {
        request.headers_mut().insert(AUTHORIZATION, self.0.clone());
        request.into()
    }
}

/// Leaves that its authority keeps.
const LEAVES: u64 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, certificate, key, roots, value] = words.as_slice() else {
        return Err("usage: side-hudsucker LISTEN CA KEY ROOTS VALUE".into());
    };
    let key = KeyPair::from_pem(&read_to_string(key)?)?;
    let issuer = Issuer::from_ca_cert_pem(&read_to_string(certificate)?, key)?;
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(roots)? {
        store.add(root?)?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    let proxy = Proxy::builder()
        .with_addr(listen.parse()?)
        .with_ca(RcgenAuthority::new(issuer, LEAVES, default_provider()))
        .with_http_connector(connector)
        .with_http_handler(Adds(value.parse()?))
        .build()?;
    Ok(proxy.start().await?)
}
