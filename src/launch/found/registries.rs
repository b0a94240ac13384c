//! Tokens of package registries and image registries.

use super::{Around, Found, Shown, Use, path_from, text};
use serde_json::Value;
use std::path::Path;
use url::Url;

pub(super) fn look(around: &Around) -> Vec<Found> {
    let mut found = npmrc(&path_from(around, "NPM_CONFIG_USERCONFIG", ".npmrc"));
    if around.here != around.home {
        found.extend(npmrc(&around.here.join(".npmrc")));
    }
    found.extend(pypirc(&around.home.join(".pypirc")));
    let cargo = path_from(around, "CARGO_HOME", ".cargo");
    found.extend(
        ["credentials.toml", "credentials"]
            .iter()
            .flat_map(|name| cargo_tokens(&cargo.join(name))),
    );
    found.extend(docker(
        &path_from(around, "DOCKER_CONFIG", ".docker").join("config.json"),
    ));
    found
}

/// `//HOST/PATH/:_authToken=…` and `:_auth=…`.
fn npmrc(path: &Path) -> Vec<Found> {
    let text = text(path).unwrap_or_default();
    let entries = text.lines().filter_map(|line| line.trim().split_once('='));
    let each = |(key, value): (&str, &str)| {
        let (place, setting) = key.trim().strip_prefix("//")?.rsplit_once(':')?;
        let host = place.split('/').next()?;
        let shown = match setting {
            "_authToken" => Shown::Bearer,
            "_auth" => Shown::Encoded,
            _ => return None,
        };
        let rule = Use::Host {
            host: host.to_owned(),
            shown,
        };
        Found::copied(path, host, value.trim().trim_matches('"'), rule)
    };
    entries.filter_map(each).collect()
}

/// One section a server. Without a `repository`, which host it is for is known to the uploader only.
fn pypirc(path: &Path) -> Vec<Found> {
    let text = text(path).unwrap_or_default();
    let mut found = Vec::new();
    for section in text.split("\n[").map(|section| section.trim_start_matches('[')) {
        let Some((name, body)) = section.split_once(']') else {
            continue;
        };
        let setting = |key: &str| {
            let pairs = body.lines().filter_map(|line| line.split_once(['=', ':']));
            pairs
                .filter(|(k, _)| k.trim() == key)
                .map(|(_, value)| value.trim())
                .next()
        };
        let Some(password) = setting("password").filter(|password| !password.is_empty()) else {
            continue;
        };
        let host = setting("repository")
            .and_then(|url| Url::parse(url).ok())
            .and_then(|url| url.host_str().map(str::to_owned));
        let Some(host) = host else {
            found.push(Found::stays(path, name, NO_HOST));
            continue;
        };
        let rule = Use::Host {
            host,
            shown: Shown::Basic(setting("username").unwrap_or("__token__").to_owned()),
        };
        found.extend(Found::copied(path, name, password, rule));
    }
    found
}

/// `token = "…"` below `[registry]` or `[registries.NAME]`: the file does not say for which host.
fn cargo_tokens(path: &Path) -> Vec<Found> {
    let text = text(path).unwrap_or_default();
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if line
            .split_once('=')
            .is_some_and(|(key, _)| matches!(key.trim(), "token" | "secret-key"))
        {
            found.push(Found::stays(path, section, CARGO));
        }
    }
    found
}

/// Logins for image registries; the daemon uses them, outside of the agent's requests.
fn docker(path: &Path) -> Vec<Found> {
    let parsed = text(path)
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .unwrap_or_default();
    let logins = parsed.get("auths").and_then(Value::as_object);
    let held = |login: &Value| {
        ["auth", "identitytoken"]
            .iter()
            .any(|key| login.get(*key).and_then(Value::as_str).is_some_and(|it| !it.is_empty()))
    };
    let named = logins.into_iter().flatten().filter(|(_, login)| held(login));
    named
        .map(|(host, _)| Found::stays(path, host.as_str(), DOCKER))
        .collect()
}

const NO_HOST: &str = "the file names no host: store the token with `keyferry secret set` and add a rule with `basic` for the upload host";
const CARGO: &str = "store the token with `keyferry secret set`, add a rule `inject: [{ header: authorization, value: \"${NAME}\" }]` \
                     for the registry's host, and run `cargo logout`";
const DOCKER: &str = "the Docker daemon uses it, not the agent's requests: keep the file out of the agent's sandbox";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Fate;
    use super::*;

    #[test]
    fn tokens_of_registries_are_found_and_references_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let rules = |found: &[Found]| -> Vec<String> {
            let told = found.iter().map(|it| match &it.fate {
                Fate::Moves(it) => format!("{:?}", it.rule),
                Fate::Stays(_) => it.place.to_string().rsplit('/').next().unwrap_or_default().to_owned(),
            });
            told.collect()
        };
        std::fs::write(&path, "//r.test/x/:_authToken=abc\n//s.test/:_authToken=${NPM_TOKEN}\n//t.test:81/:_auth=eDp5\nregistry=https://x\n").unwrap();
        let bearer = r#"Host { host: "r.test", shown: Bearer }"#;
        assert_eq!(
            rules(&npmrc(&path)),
            [bearer, r#"Host { host: "t.test:81", shown: Encoded }"#]
        );
        std::fs::write(&path, "[distutils]\nindex-servers = a\n\n[a]\nrepository: https://up.test/legacy/\nusername = u\npassword = p\n[b]\npassword = q\n").unwrap();
        assert_eq!(
            rules(&pypirc(&path)),
            [r#"Host { host: "up.test", shown: Basic("u") }"#, "f (b)"]
        );
        std::fs::write(&path, "[registry]\ntoken = \"x\"\n[registries.mine]\ntoken = \"y\"\n").unwrap();
        assert_eq!(rules(&cargo_tokens(&path)), ["f (registry)", "f (registries.mine)"]);
        std::fs::write(
            &path,
            r#"{"auths":{"i.test":{"auth":"eDp5"},"empty.test":{}},"credsStore":"x"}"#,
        )
        .unwrap();
        assert_eq!(rules(&docker(&path)), ["f (i.test)"]);
    }
}
