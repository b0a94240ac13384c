//! nono's proxy with an intercepting route for each host: PORT CA_DIR ROOTS VARIABLE HOST…

use nono_proxy::ProxyConfig;
use nono_proxy::config::RouteConfig;
use std::error::Error;
use zeroize::Zeroizing;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, ca_dir, roots, variable, hosts @ ..] = words.as_slice() else {
        return Err("usage: side-nono PORT CA_DIR ROOTS VARIABLE HOST…".into());
    };
    let routes = hosts.iter().map(|host| RouteConfig {
        prefix: host.replace('.', "-"),
        upstream: format!("https://{host}"),
        credential_key: Some(format!("env://{variable}")),
        env_var: Some("SIDE_KEY".into()),
        inject_header: "Authorization".into(),
        tls_ca: Some(roots.clone()),
        ..RouteConfig::default()
    });
    let config = ProxyConfig {
        bind_port: port.parse()?,
        routes: routes.collect(),
        require_auth: false,
        session_token: Some(Zeroizing::new("side".into())),
        intercept_ca_dir: Some(ca_dir.into()),
        enable_h2: true,
        enable_network_audit: false,
        ..ProxyConfig::default()
    };
    let running = nono_proxy::start(config).await?;
    tokio::signal::ctrl_c().await?;
    running.shutdown();
    Ok(())
}
