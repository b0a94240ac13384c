//! Each room imports only rooms above it, and only some may make the calls that matter most. A
//! plain search of the text: it sees written paths, which is why the crate root re-exports nothing.

use std::fs;
use std::path::Path;

/// Each room and the rooms it may import, which all stand above it here.
pub const ROOMS: &[(&str, &str)] = &[
    ("base", ""),
    ("config", "base"),
    ("sign", "base"),
    ("metrics", "base"),
    ("scrub", "base"),
    ("audit", "base config"),
    ("ca", "base config"),
    ("firewall", "base config"),
    ("front", "base config"),
    ("identity", "base config"),
    ("launch", "base config ca"),
    ("listen", "base config"),
    ("policy", "base config"),
    ("net", "base config policy"),
    ("store", "base config sign net"),
    // `scrub`: what it places, it also names as traces.
    ("inject", "base config sign policy net store scrub"),
    // Neither `store` nor `listen`: of a secret it sees no more than what was injected.
    (
        "proxy",
        "base config metrics scrub audit ca front identity policy net inject",
    ),
    ("admin", "base config metrics audit ca policy"),
    ("app", "*"),
    // `audit`: `run` ends with its totals, and the trail is for reading. `base`: everybody's words.
    ("cli", "base config audit ca firewall launch listen policy store app"),
];

/// Calls, and the only places that may make them.
const DOORS: &[(&str, &str)] = &[
    // The encrypted file must write a value down, and see that it is text before.
    (".expose( Secret::expose", "base sign inject scrub store/encrypted.rs"),
    // The demo stands in for somebody else's program, which dials the proxy by itself; a health check asks Keyferry.
    ("TcpStream::connect TcpSocket", "net/dial.rs cli/demo.rs cli/health.rs"),
    ("rcgen", "ca"),
    ("std::process tokio::process", "launch store/exec.rs firewall/force.rs"),
    ("print! println! dbg!", "cli"),
    ("tokio::spawn task::spawn(", ""),
    (".into_ask( ::into_ask", "net policy"),
];

/// How a program ends, and what it is called: neither starts another.
const HARMLESS: &[&str] = &["std::process::ExitCode", "std::process::id("];

/// What `text`, the file `at` under `src/`, does that it may not.
fn breaches(at: &str, text: &str) -> Vec<String> {
    // Tests dial their own listeners and look into what they made; what ships does not.
    let shipped = if at.contains("/tests") {
        ""
    } else {
        text.split("#[cfg(test)]\nmod tests {").next().unwrap()
    };
    let (text, shipped) = (spelled_out(text), spelled_out(shipped));
    let place = at.trim_end_matches(".rs").trim_end_matches("/mod");
    let (room, depth) = (place.split('/').next().unwrap(), place.split('/').count());
    let known = ROOMS.iter().position(|(name, _)| *name == room);
    let mut found = Vec::new();
    if known.is_none() && !["lib", "main"].contains(&room) {
        found.push(format!("{at}: `{room}` is no room of the table"));
    }
    if at == "lib.rs" && text.contains("pub use") {
        found.push(format!("{at}: the crate root re-exports"));
    }
    let may = |name: &str| name == room || known.is_some_and(|known| is_listed(ROOMS[known].1, name, &ROOMS[..known]));
    for name in imports(&text, depth).into_iter().filter(|name| !may(name)) {
        found.push(format!("{at}: `{room}` may not import `{name}`"));
    }
    let shipped = HARMLESS
        .iter()
        .fold(shipped, |text, harmless| text.replace(harmless, ""));
    for (calls, places) in DOORS {
        let open = places.split(' ').any(|place| at == place || room == place);
        for call in calls.split(' ').filter(|call| !open && shipped.contains(call)) {
            found.push(format!("{at}: `{call}` is only for `{places}`"));
        }
    }
    found
}

fn is_listed(list: &str, name: &str, above: &[(&str, &str)]) -> bool {
    list.split(' ').any(|listed| listed == name) || list == "*" && above.iter().any(|(room, _)| *room == name)
}

/// The text without comments, followed by every `use` in it with its braces multiplied out.
fn spelled_out(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: Vec<_> = code.filter_map(|line| line.split(" // ").next()).collect();
    let mut text = code.join("\n");
    let trees = text.split("use ").skip(1).filter_map(|rest| rest.split(';').next());
    let paths: Vec<_> = trees
        .flat_map(|tree| multiplied("", &tree.replace([' ', '\n'], "")))
        .collect();
    text.push('\n');
    text.push_str(&paths.join("\n"));
    text
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d` and `a::c::e`.
fn multiplied(prefix: &str, tree: &str) -> Vec<String> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, letter) in tree.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    let grown = parts.iter().flat_map(|part| match part.split_once('{') {
        Some((head, rest)) => multiplied(&format!("{prefix}{head}"), rest.strip_suffix('}').unwrap_or(rest)),
        None => vec![format!("{prefix}{part}")],
    });
    grown.collect()
}

/// The rooms named from the crate root, whether by `crate` or by `super` often enough.
fn imports(text: &str, depth: usize) -> Vec<&str> {
    let name = |rest: &'_ str| {
        rest.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len())
    };
    let named = text.split("crate::").skip(1).map(|rest| &rest[..name(rest)]);
    let climb = "super::".repeat(depth);
    let climbed = text
        .split(&climb)
        .skip(1)
        .map(|rest| rest.trim_start_matches("super::"));
    // A test module climbs one step more to the same place, so only a room's own name counts.
    let climbed = climbed
        .map(|rest| &rest[..name(rest)])
        .filter(|name| ROOMS.iter().any(|(room, _)| room == name));
    let renamed = text.contains("use crate as").then_some("crate");
    named
        .filter(|name| !name.is_empty())
        .chain(climbed)
        .chain(renamed)
        .collect()
}

fn visit(dir: &Path, see: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, see);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            see(&path);
        }
    }
}

#[test]
fn each_room_keeps_to_its_layer_and_its_doors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut files) = (Vec::new(), 0);
    visit(&root, &mut |path| {
        let at = path.strip_prefix(&root).unwrap().to_str().unwrap();
        found.extend(breaches(at, &fs::read_to_string(path).unwrap()));
        files += 1;
    });
    assert!(files > 100, "only {files} files were read");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_table_has_no_room_that_imports_a_lower_one() {
    for (at, (room, list)) in ROOMS.iter().enumerate() {
        for name in list.split([' ', '*']).filter(|name| !name.is_empty()) {
            assert!(
                ROOMS[..at].iter().any(|(above, _)| *above == name),
                "{room} imports {name} from below"
            );
        }
    }
}

#[test]
fn a_breach_is_seen_however_it_is_written() {
    for (at, text) in [
        ("base/host.rs", "use crate::net::Upstream;"),
        ("policy/decide.rs", "use crate::{base::ask::Ask, store};"),
        (
            "policy/decide.rs",
            "use crate::{\n    base::{ask::Ask, host},\n    net::{self, pool::{Key}},\n};",
        ),
        ("policy/decide.rs", "let upstream = crate::net::Upstream::new();"),
        ("policy/decide.rs", "use super::super::net;"),
        ("policy/mod.rs", "use super::net;"),
        ("policy/mod.rs", "use crate as all;"),
        ("admin/mod.rs", "use crate::store::Store;"),
        ("proxy/exchange.rs", "use crate::store::Store;"),
        ("app/run.rs", "use crate::cli::serve;"),
        ("attic/mod.rs", ""),
        ("lib.rs", "pub mod base;\npub use base::host::Host;"),
        ("admin/mod.rs", "secret.expose(|bytes| bytes.len());"),
        (
            "admin/mod.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}",
        ),
        ("store/mod.rs", "let open = Secret::expose;"),
        ("proxy/tunnel.rs", "tokio::net::TcpStream::connect(at).await?;"),
        ("app/run.rs", "use rcgen::KeyPair;"),
        ("app/run.rs", "use std::{io, process::{Command, ExitCode}};"),
        ("inject/arm.rs", "use tokio::process;"),
        ("net/send.rs", "eprintln!(\"lost\"); // it happens"),
        ("cli/run.rs", "tokio::spawn(async {});"),
        ("cli/run.rs", "use tokio::{net, spawn};"),
        ("proxy/exchange.rs", "let (target, ..) = permitted.into_ask();"),
    ] {
        assert_ne!(breaches(at, text), Vec::<String>::new(), "{at}: {text}");
    }
}

#[test]
fn what_is_allowed_is_no_breach() {
    for (at, text) in [
        (
            "policy/decide.rs",
            "use crate::{base::{ask::Ask, host}, config::model, policy::limit};",
        ),
        ("config/check/rules.rs", "use super::inject;\nuse super::super::model;"),
        (
            "base/secret.rs",
            "//! See [`crate::config::Config`].\nlet n = 1; // unlike crate::net",
        ),
        (
            "cli/reload.rs",
            "use std::process::ExitCode;\nprintln!(\"{}\", std::process::id());",
        ),
        ("net/send.rs", "let (target, ..) = permitted.into_ask();"),
        ("app/run.rs", "use crate::{proxy, store};"),
        (
            "listen/owner.rs",
            "#[cfg(test)]\nmod tests {\n    TcpStream::connect(own);\n}",
        ),
    ] {
        assert_eq!(breaches(at, text), Vec::<String>::new(), "{at}: {text}");
    }
}
