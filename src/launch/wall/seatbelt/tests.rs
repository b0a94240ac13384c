#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use crate::launch::wall::Masked;
use crate::launch::wall::docker::tests::plan;

/// A form of the language: a word, a string, or a list of these.
#[derive(Debug, Clone, PartialEq)]
enum Form {
    Word(String),
    Text(String),
    List(Vec<Form>),
}

/// Reads forms up to the end of the list they are in.
fn read(text: &mut &str) -> Vec<Form> {
    let mut forms = Vec::new();
    loop {
        *text = text.trim_start();
        let Some(first) = text.chars().next() else { return forms };
        match first {
            ';' => *text = text.split_once('\n').map_or("", |(_, rest)| rest),
            ')' => {
                *text = &text[1..];
                return forms;
            }
            '(' => {
                *text = &text[1..];
                forms.push(Form::List(read(text)));
            }
            '"' => {
                let (mut held, mut rest) = (String::new(), text[1..].chars());
                while let Some(letter) = rest.next().filter(|letter| *letter != '"') {
                    held.push(if letter == '\\' { rest.next().unwrap() } else { letter });
                }
                *text = rest.as_str();
                forms.push(Form::Text(held));
            }
            _ => {
                let end = text
                    .find(|c: char| c.is_whitespace() || "()\"".contains(c))
                    .unwrap_or(text.len());
                forms.push(Form::Word(text[..end].to_owned()));
                *text = &text[end..];
            }
        }
    }
}

fn fits(filter: &[Form], of: &str) -> bool {
    match filter {
        [Form::Word(kind), Form::Text(path)] => match kind.as_str() {
            "literal" | "global-name" => of == path,
            "subpath" => Path::new(of).starts_with(path),
            // The one that is written is of devices.
            "regex" => of.starts_with("/dev/ttys"),
            _ => panic!("{kind}"),
        },
        // `#` stands before the text of a pattern.
        [Form::Word(kind), Form::Word(_), Form::Text(_)] if kind == "regex" => of.starts_with("/dev/ttys"),
        [Form::Word(kind), Form::Word(ip), Form::Text(at)] if kind == "remote" && ip == "ip" => of == at,
        [Form::Word(kind), Form::Word(_)] if kind == "target" => of == "same-sandbox",
        other => panic!("{other:?}"),
    }
}

/// What becomes of an act, by the last rule that fits.
fn allowed(profile: &str, act: &str, of: &str) -> bool {
    let mut rest = profile;
    let rules = read(&mut rest);
    assert!(rest.is_empty() && rules[0] == Form::List(vec![Form::Word("version".into()), Form::Word("1".into())]));
    let mut verdict = None;
    for rule in &rules[1..] {
        let Form::List(parts) = rule else { panic!("{rule:?}") };
        let acts: Vec<_> = parts[1..]
            .iter()
            .filter_map(|part| match part {
                Form::Word(act) => Some(act.as_str()),
                _ => None,
            })
            .collect();
        let mut filters = parts[1..].iter().filter_map(|part| match part {
            Form::List(filter) => Some(filter),
            _ => None,
        });
        let covers = |name: &str| {
            name == "default" || name == act || name.strip_suffix('*').is_some_and(|start| act.starts_with(start))
        };
        let bare = filters.clone().next().is_none();
        if acts.iter().any(|name| covers(name)) && (bare || filters.any(|filter| fits(filter, of))) {
            verdict = Some(parts[0] == Form::Word("allow".into()));
        }
    }
    verdict.unwrap()
}

#[test]
fn the_profile_shows_what_is_shared_and_leads_to_the_proxy_alone() {
    let mut plan = plan();
    plan.mounts[0].path = "/w/a \"quoted\\ one".into();
    plan.masked.push(Masked {
        path: "/w/deep/er/.aws".into(),
        why: "credentials",
        dir: true,
    });
    let profile = profile(&plan).unwrap();
    let may = |act, of| allowed(&profile, act, of);
    for of in ["/w/src/main.rs", "/m/x", "/usr/lib/libc.dylib", "/r/agent/bundle.pem"] {
        assert!(may("file-read-data", of), "{of}");
    }
    for of in [
        "/w/.env",
        "/w/deep/er/.aws/credentials",
        "/Users/me/.ssh/id_ed25519",
        "/Users/me/.aws",
        "/private/var/root/x",
        "/r/proxy/p.sock",
    ] {
        assert!(!may("file-read-data", of), "{of}");
        assert!(!may("file-write-create", of), "{of}");
    }
    assert!(!may("file-read-data", "/Library/Keychains/System.keychain"));
    assert!(may("file-write-data", "/w/src/main.rs") && !may("file-write-data", "/m/x"));
    assert!(may("file-read-data", "/w/a \"quoted\\ one/x") && !may("file-write-data", "/w/a \"quoted\\ one/x"));
    for of in ["/w", "/w/deep", "/w/deep/er"] {
        assert!(!may("file-write-unlink", of), "{of}");
    }
    assert!(may("file-write-unlink", "/w/src"));
    assert!(!may("file-write-data", "/usr/bin/env") && !may("file-write-data", "/r/agent/bundle.pem"));
    assert!(may("network-outbound", "localhost:3128"));
    for of in ["localhost:22", "*:443", "203.0.113.1:443", "/var/run/docker.sock"] {
        assert!(!may("network-outbound", of), "{of}");
    }
    assert!(!may("network-bind", "localhost:3128") && !may("network-inbound", "localhost:1"));
    assert!(may("process-exec", "/usr/bin/env") && may("signal", "same-sandbox") && !may("signal", "others"));
    for of in [
        "com.apple.securityd.xpc",
        "com.apple.SecurityServer",
        "com.apple.pasteboard.1",
        "com.apple.coreservices.launchservicesd",
    ] {
        assert!(!may("mach-lookup", of), "{of}");
    }
    assert!(!may("appleevent-send", "any") && !may("mach-priv-task-port", "others"));
}

#[test]
fn the_command_follows_its_profile_word_for_word() {
    let words = words(&plan()).unwrap();
    assert_eq!(words[..2], ["/usr/bin/sandbox-exec", "-p"].map(OsString::from));
    assert_eq!(words[3..], plan().words[..]);
}
