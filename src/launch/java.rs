//! `JAVA_TOOL_OPTIONS`: a JVM reads no proxy variable and no PEM file.

use super::environment::{Given, LOOPBACK, Vars};
use super::files::Files;
use std::ffi::{OsStr, OsString};

/// The caller's options and ours, which win by coming last.
///
/// There is no way to hand a JVM proxy credentials from outside: it ignores `https.proxyUser`. An
/// agent that runs Java needs a listener that asks for none.
pub(super) fn options(vars: &Vars, files: &Files, given: &Given) -> OsString {
    let (host, port) = (given.proxy.bare_host(), given.proxy.port());
    let further = given.no_proxy.iter().map(|host| java_pattern(host));
    let loopback = LOOPBACK
        .iter()
        .map(|host| if *host == "::1" { "[::1]".into() } else { (*host).into() });
    let direct: Vec<String> = loopback.chain(["127.*".into()]).chain(further).collect();
    let ours = [
        format!("-Dhttp.proxyHost={host}"),
        format!("-Dhttp.proxyPort={port}"),
        format!("-Dhttps.proxyHost={host}"),
        format!("-Dhttps.proxyPort={port}"),
        format!("-Dhttp.nonProxyHosts={}", quoted(&direct.join("|"))),
        format!(
            "-Djavax.net.ssl.trustStore={}",
            quoted(&files.truststore.to_string_lossy())
        ),
        "-Djavax.net.ssl.trustStoreType=PKCS12".to_owned(),
    ];
    let mut all = vars.get(OsStr::new("JAVA_TOOL_OPTIONS")).cloned().unwrap_or_default();
    for option in ours {
        if !all.is_empty() {
            all.push(" ");
        }
        all.push(option);
    }
    all
}

/// `.corp.example` is `*.corp.example` there.
fn java_pattern(host: &str) -> String {
    if host.starts_with('.') {
        format!("*{host}")
    } else {
        host.to_owned()
    }
}

/// Quotes as HotSpot reads them: either kind may stand anywhere in an option and ends at the next of
/// its kind; there is no escape.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '"' && c != '\'';
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let pieces: Vec<String> = value.split('"').map(|piece| format!("\"{piece}\"")).collect();
    pieces.join("'\"'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_as_the_jvm_reads_them() {
        for (value, written) in [
            ("/a/b", "/a/b"),
            ("/a b/c", "\"/a b/c\""),
            ("it's", "\"it's\""),
            ("a\"b c", "\"a\"'\"'\"b c\""),
        ] {
            assert_eq!(quoted(value), written);
        }
    }
}
