//! What `run` gives a command: its environment, its files, and its own exit code.

mod child;
mod environment;
mod init;
mod node;
mod passing;
mod signals;

use keyferry::ca::authority::Authority;
use keyferry::ca::bundle::Bundle;
use keyferry::config::model::CaSource;
use keyferry::launch::{Given, Proxy};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// What a run with a CA of its own is given, its files below `dir`.
fn given(proxy: &str, dir: &Path) -> Given {
    let authority = Authority::open(&CaSource::Memory).unwrap();
    let bundle = Bundle::write(&dir.join("ca"), &authority, None).unwrap();
    Given {
        proxy: Proxy::parse(proxy).unwrap(),
        dir: dir.join("run"),
        ca_pem: bundle.ca_pem().into(),
        bundle_pem: bundle.bundle_pem().into(),
        truststore_p12: bundle.truststore_p12().into(),
        placeholders: Vec::new(),
        withheld: Vec::new(),
        keep: Vec::new(),
        no_proxy: Vec::new(),
        git_over_https: Vec::new(),
    }
}

/// A caller's environment.
fn caller(vars: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
    let vars: Vec<_> = vars.iter().map(|(name, value)| (name.into(), value.into())).collect();
    vars.into_iter()
}

/// The command's environment, by name.
fn made(vars: &[(&str, &str)], given: &Given) -> BTreeMap<String, String> {
    let made = keyferry::launch::agent_environment(caller(vars), given).unwrap();
    let text = |text: OsString| text.into_string().unwrap();
    made.vars
        .into_iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}
