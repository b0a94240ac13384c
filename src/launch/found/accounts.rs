//! Logins that tools keep for hosts: netrc, git, the GitHub and GitLab clients, Hugging Face, Terraform.

use super::{Around, Fate, Found, Move, Origin, Place, Shown, Use, path_from, secret, text, variables};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::path::Path;
use url::Url;

pub(super) fn look(around: &Around) -> Vec<Found> {
    let home = |path: &str| around.home.join(path);
    let mut found = netrc(&path_from(around, "NETRC", ".netrc"));
    found.extend(git(&home(".git-credentials")));
    found.extend(git(&home(".config/git/credentials")));
    let gh = path_from(around, "GH_CONFIG_DIR", ".config/gh").join("hosts.yml");
    found.extend(yaml_hosts(&gh, "oauth_token"));
    found.extend(gh_login(&gh));
    found.extend(yaml_hosts(&home(".config/glab-cli/config.yml"), "token"));
    found.extend(terraform(&home(".terraform.d/credentials.tfrc.json")));
    let hugging_face = path_from(around, "HF_HOME", ".cache/huggingface").join("token");
    found.extend(
        [hugging_face, home(".huggingface/token")]
            .into_iter()
            .filter_map(|path| whole(&path, "huggingface")),
    );
    found
}

fn basic(host: &str, user: &str) -> Use {
    at(host, Shown::Basic(user.to_owned()))
}

/// A token for the git of one of these is good for its API too, so the preset is the better rule;
/// and a rule beside the preset's would be dead.
fn at(host: &str, shown: Shown) -> Use {
    match host {
        "github.com" | "api.github.com" => Use::Preset("github".into()),
        "gitlab.com" => Use::Preset("gitlab".into()),
        "huggingface.co" => Use::Preset("huggingface".into()),
        _ => Use::Host {
            host: host.to_owned(),
            shown,
        },
    }
}

/// `machine HOST login USER password WORD`, in any order and over any lines; `macdef` ends at an
/// empty line.
fn netrc(path: &Path) -> Vec<Found> {
    let text = text(path).unwrap_or_default();
    let mut found = Vec::new();
    let (mut host, mut user, mut password) = ("", "", "");
    let mut words = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace);
    let mut close = |host: &str, user: &str, password: &str| {
        if !host.is_empty() && !user.contains(':') {
            found.extend(Found::copied(path, host, password, basic(host, user)));
        }
    };
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" => {
                close(host, user, password);
                (host, user, password) = ("", "", "");
                if word == "machine" {
                    host = words.next().unwrap_or_default();
                }
            }
            "login" => user = words.next().unwrap_or_default(),
            "password" => password = words.next().unwrap_or_default(),
            "account" => drop(words.next()),
            "macdef" => break,
            _ => {}
        }
    }
    close(host, user, password);
    found
}

/// `https://USER:WORD@HOST`, one a line, percent-encoded.
fn git(path: &Path) -> Vec<Found> {
    let text = text(path).unwrap_or_default();
    let entries = text.lines().filter_map(|line| Url::parse(line.trim()).ok());
    let each = |url: Url| {
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let host = url.port().map_or_else(
            || url.host_str().map(str::to_owned),
            |port| Some(format!("{}:{port}", url.host_str()?)),
        )?;
        let (user, password) = (decoded(url.username()), decoded(url.password()?));
        Found::copied(path, &host, &password, basic(&host, &user)).filter(|_| !user.contains(':'))
    };
    entries.filter_map(each).collect()
}

/// Hosts and their tokens, at the top (`gh`) or below `hosts` (`glab`).
fn yaml_hosts(path: &Path, key: &str) -> Vec<Found> {
    let parsed = text(path)
        .and_then(|text| serde_yaml::from_str::<Value>(&text).ok())
        .unwrap_or_default();
    let Some(hosts) = parsed.get("hosts").unwrap_or(&parsed).as_object() else {
        return Vec::new();
    };
    let each = |(host, settings): (&String, &Value)| {
        let users = settings.get("users").and_then(Value::as_object);
        let of_user = || users?.values().find_map(|user| user.get(key)?.as_str());
        let token = settings.get(key).and_then(Value::as_str).or_else(of_user)?;
        Found::copied(path, host, token, at(host, Shown::Bearer))
    };
    hosts.iter().filter_map(each).collect()
}

/// A login of `gh` at GitHub, wherever it keeps the token.
fn gh_login(path: &Path) -> Option<Found> {
    let parsed = serde_yaml::from_str::<Value>(&text(path)?).ok()?;
    let host = "github.com";
    parsed.get(host)?;
    Some(Found::stays(path, host, GH))
}

const GH: &str = "a login of gh's: `gh auth logout`, write `- preset: github-login` in the place of `github` in the rules, and `gh auth \
                  login` through Keyferry, which keeps the token; or keep the file and the keyring out of the agent's sandbox";

/// `{"credentials": {HOST: {"token": …}}}`.
fn terraform(path: &Path) -> Vec<Found> {
    let parsed = text(path)
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .unwrap_or_default();
    let hosts = parsed.get("credentials").and_then(Value::as_object);
    let each = |(host, settings): (&String, &Value)| {
        Found::copied(path, host, settings.get("token")?.as_str()?, at(host, Shown::Bearer))
    };
    hosts.into_iter().flatten().filter_map(each).collect()
}

/// A file that holds one token and nothing else: Keyferry can read it where it is.
fn whole(path: &Path, preset: &str) -> Option<Found> {
    let value = secret(&text(path)?)?;
    let fate = Fate::Moves(Box::new(Move {
        name: preset.to_owned(),
        value,
        source: Origin::File(path.into()),
        rule: Use::Preset(preset.to_owned()),
        variables: variables::of_preset(preset),
    }));
    let place = Place::File {
        path: path.into(),
        entry: String::new(),
    };
    Some(Found { place, fate })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use std::path::PathBuf;

    /// Each with the value it must have, since only a comparison may see it.
    fn assert_uses(found: &[Found], expected: &[(&str, Use)]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, (value, rule)) in found.iter().zip(expected) {
            let Fate::Moves(how) = &found.fate else {
                panic!("{found:?}");
            };
            assert!(how.value.matches(value.as_bytes()), "{found:?}");
            assert_eq!(&how.rule, rule);
        }
    }

    fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_netrc_is_read_in_any_order() {
        let text = "# machine no login x password y\nmachine a.test login u password p\nmachine b.test\n password q\n login v\n\
                    default login d password e\nmachine c.test login only\nmacdef init\nmachine d.test login x password y\n";
        let (_dir, path) = written(".netrc", text);
        let found = netrc(&path);
        assert_uses(&found, &[("p", basic("a.test", "u")), ("q", basic("b.test", "v"))]);
    }

    #[test]
    fn git_credentials_are_decoded() {
        let (_dir, path) = written("c", "https://u%40x:p%2Fq@git.test:8443\nhttps://git.test/\nnonsense\n");
        assert_uses(&git(&path), &[("p/q", basic("git.test:8443", "u@x"))]);
    }

    #[test]
    fn tokens_of_the_forges_clients_are_found_with_and_without_users() {
        let text =
            "github.com:\n  users:\n    me:\n      oauth_token: gho_x\n  user: me\nghe.test:\n  oauth_token: gho_y\n";
        let (_dir, path) = written("hosts.yml", text);
        let found = yaml_hosts(&path, "oauth_token");
        let bearer = Use::Host {
            host: "ghe.test".into(),
            shown: Shown::Bearer,
        };
        assert_uses(&found, &[("gho_x", Use::Preset("github".into())), ("gho_y", bearer)]);
    }
}
