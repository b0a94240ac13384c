//! The environment of the command: the caller's, less its credentials, plus the way through
//! Keyferry.

use super::files::{Files, caller_roots};
use super::withheld::{self, Withheld};
use super::{Error, Proxy, java, node};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What an agent's command is given.
#[derive(Debug, Clone)]
pub struct Given {
    /// The proxy.
    pub proxy: Proxy,
    /// A directory for this run alone; everything the command has to read is put there, so it is
    /// the one place a sandbox must show it. Made if need be.
    pub dir: PathBuf,
    /// Keyferry's CA certificate alone, PEM.
    pub ca_pem: PathBuf,
    /// The caller's and the system's roots and Keyferry's CA, PEM.
    pub bundle_pem: PathBuf,
    /// The same for Java, PKCS#12 without a password.
    pub truststore_p12: PathBuf,
    /// Variables and the stand-ins they hold.
    pub placeholders: Vec<(String, String)>,
    /// Variables that are the source of a secret of the config: removed, even if listed in `keep`.
    pub withheld: Vec<String>,
    /// Variables that look like credentials but stay (`--keep-env`).
    pub keep: Vec<String>,
    /// Hosts the command may reach past the proxy, besides loopback.
    pub no_proxy: Vec<String>,
    /// Hosts for which git uses HTTPS even if a remote is written as SSH, as only HTTPS can be
    /// given a credential on the way.
    pub git_over_https: Vec<String>,
}

/// The environment, and what was kept out of it.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Every variable of the command.
    pub vars: Vec<(OsString, OsString)>,
    /// What the caller has and the command does not get.
    pub withheld: Vec<Withheld>,
}

/// Variables by name.
pub(super) type Vars = BTreeMap<OsString, OsString>;

/// Makes the environment for a command out of the `caller`'s, and writes the files it refers to
/// into [`Given::dir`].
///
/// # Errors
/// When a file cannot be read or written, or the directory's name cannot be passed on.
pub fn agent_environment(
    caller: impl Iterator<Item = (OsString, OsString)>,
    given: &Given,
) -> Result<Environment, Error> {
    let mut vars: Vars = caller.collect();
    let roots = caller_roots(&vars, given)?;
    let withheld = withheld::remove(&mut vars, given);
    let files = Files::write(&vars, &roots, given)?;
    point_at_proxy(&mut vars, &given.proxy, &no_proxy(given));
    trust(&mut vars, &files);
    git(&mut vars, given);
    vars.insert("JAVA_TOOL_OPTIONS".into(), java::options(&vars, &files, given));
    vars.insert("NODE_OPTIONS".into(), node::options(&vars, &files));
    // As of 24.5 and 22.21 Node reads the proxy variables itself, if asked to.
    vars.insert("NODE_USE_ENV_PROXY".into(), "1".into());
    for (name, stand_in) in &given.placeholders {
        vars.insert(name.into(), stand_in.into());
    }
    Ok(Environment {
        vars: vars.into_iter().collect(),
        withheld,
    })
}

/// The caller's environment with the proxy in it, and nothing else changed: for a sandbox whose files and trust somebody
/// else has set up.
pub fn behind(caller: impl Iterator<Item = (OsString, OsString)>, proxy: &Proxy) -> Vec<(OsString, OsString)> {
    let mut vars: Vars = caller.collect();
    // Whoever named this very address before may have put a token beside it. One that is for another proxy is not shown.
    let named = ["HTTPS_PROXY", "https_proxy"].iter().find_map(|name| {
        let named = Proxy::parse(vars.get(OsStr::new(name))?.to_str()?).ok()?;
        (named.host() == proxy.host() && named.port() == proxy.port()).then_some(named)
    });
    point_at_proxy(&mut vars, named.as_ref().unwrap_or(proxy), &LOOPBACK.join(","));
    vars.insert("NODE_USE_ENV_PROXY".into(), "1".into());
    vars.into_iter().collect()
}

/// Names the proxy in every spelling.
///
/// curl reads `http_proxy` in lower case only, wget and apt lower case only, others upper case only
/// or first, so all are set and none is left from the caller. Loopback stays direct, or the agent
/// could not reach the servers it starts itself; nothing else does, whatever the caller's
/// `NO_PROXY` says, as such a host would be reached unjudged and without its credential.
fn point_at_proxy(vars: &mut Vars, proxy: &Proxy, direct: &str) {
    let url = proxy.url();
    for name in PROXY {
        vars.insert((*name).into(), url.clone().into());
    }
    for name in ["NO_PROXY", "no_proxy", "npm_config_noproxy"] {
        vars.insert(name.into(), direct.into());
    }
    for name in ["no_grpc_proxy", "NO_GRPC_PROXY", "FTP_PROXY", "ftp_proxy"] {
        vars.remove(OsStr::new(name));
    }
}

/// Hosts that are reached directly, with commas between them.
pub(super) fn no_proxy(given: &Given) -> String {
    let further = given.no_proxy.iter().map(String::as_str);
    LOOPBACK.iter().copied().chain(further).collect::<Vec<_>>().join(",")
}

/// Points every client that can be told at the roots.
///
/// `SSL_CERT_DIR` is left as the caller has it: all clients that read it read `SSL_CERT_FILE` too,
/// so it only adds roots and cannot hide ours.
fn trust(vars: &mut Vars, files: &Files) {
    for name in BUNDLE {
        vars.insert((*name).into(), files.bundle.clone().into());
    }
    // These add to built-in roots, so they need no more than our CA, unless the caller added some.
    for name in EXTRA {
        let own = vars.contains_key(OsStr::new(name));
        let file = if own { &files.bundle } else { &files.ca };
        vars.insert((*name).into(), file.into());
    }
    vars.insert("WGETRC".into(), files.wgetrc.clone().into());
    vars.insert("APT_CONFIG".into(), files.apt_conf.clone().into());
}

/// Adds to the settings git takes from the environment, which win over every file.
fn git(vars: &mut Vars, given: &Given) {
    let url = given.proxy.url();
    let mut settings = vec![("http.proxy".to_owned(), url)];
    if given.proxy.credentials().is_some() {
        // Otherwise git sends none before it has seen a 407.
        settings.push(("http.proxyAuthMethod".into(), "basic".into()));
    }
    // An empty name forgets the helpers of the user's own files: they would hand the agent what
    // Keyferry is there to keep from it.
    settings.push(("credential.helper".into(), String::new()));
    for host in &given.git_over_https {
        let key = format!("url.https://{host}/.insteadOf");
        settings.push((key.clone(), format!("git@{host}:")));
        settings.push((key, format!("ssh://git@{host}/")));
    }
    let count = vars.get(OsStr::new("GIT_CONFIG_COUNT")).and_then(|n| n.to_str());
    let first = count.and_then(|n| n.trim().parse::<usize>().ok()).unwrap_or(0);
    for (n, (key, value)) in (first..).zip(&settings) {
        vars.insert(format!("GIT_CONFIG_KEY_{n}").into(), key.into());
        vars.insert(format!("GIT_CONFIG_VALUE_{n}").into(), value.into());
    }
    vars.insert("GIT_CONFIG_COUNT".into(), (first + settings.len()).to_string().into());
    // No one answers a password prompt; without this, git waits for one.
    vars.entry("GIT_TERMINAL_PROMPT".into()).or_insert_with(|| "0".into());
}

/// The variable's value as a path, if it is set and not empty.
pub(super) fn path_in<'a>(vars: &'a Vars, name: &str) -> Option<&'a Path> {
    let value = vars.get(OsStr::new(name))?;
    (!value.is_empty()).then(|| Path::new(value))
}

/// Every variable that names a proxy. The last rows win over the setting in a tool's own file.
const PROXY: &[&str] = &[
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "WS_PROXY",
    "ws_proxy",
    "WSS_PROXY",
    "wss_proxy",
    "grpc_proxy",
    "npm_config_proxy",
    "npm_config_https_proxy",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "PIP_PROXY",
    "CARGO_HTTP_PROXY",
];

/// Never sent to the proxy.
pub(super) const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// Variables whose file replaces the client's own roots.
pub(super) const BUNDLE: &[&str] = &[
    "SSL_CERT_FILE",
    "NIX_SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "npm_config_cafile",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "HTTPLIB2_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "BUNDLE_SSL_CA_CERT",
    "COMPOSER_CAFILE",
    "HEX_CACERTS_PATH",
    "JULIA_SSL_CA_ROOTS_PATH",
    "PERL_LWP_SSL_CA_FILE",
];

/// Variables whose file adds to the client's own roots.
pub(super) const EXTRA: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];
