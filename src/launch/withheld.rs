//! Which of the caller's variables are credentials, by name or by what they hold.

use super::environment::{Given, Vars};
use std::ffi::{OsStr, OsString};

/// A variable the command does not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// Its name; its value is never kept.
    pub name: OsString,
    /// Why.
    pub reason: Reason,
}

/// Why a variable is kept from the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The config takes a secret from it.
    Source,
    /// It leads to an agent or helper that signs in for whoever asks.
    Access,
    /// Its name is that of a credential.
    Name,
    /// Its value has the shape of a credential.
    Value,
}

/// Removes the credentials from `vars` and says which. Placeholders come later, over the gap.
pub(super) fn remove(vars: &mut Vars, given: &Given) -> Vec<Withheld> {
    let found: Vec<Withheld> = vars
        .iter()
        .filter_map(|(name, value)| {
            let reason = reason(name, value, given)?;
            Some(Withheld {
                name: name.clone(),
                reason,
            })
        })
        .collect();
    for Withheld { name, .. } in &found {
        if name.to_string_lossy().starts_with("GIT_CONFIG_VALUE_") {
            // git counts these; a missing one is an error, an empty one clears the setting.
            vars.insert(name.clone(), OsString::new());
        } else {
            vars.remove(name);
        }
    }
    // One the agent gets a stand-in for is not missing.
    let stands_in = |name: &OsStr| given.placeholders.iter().any(|(placed, _)| OsStr::new(placed) == name);
    found.into_iter().filter(|it| !stands_in(&it.name)).collect()
}

fn reason(name: &OsStr, value: &OsStr, given: &Given) -> Option<Reason> {
    let listed = |list: &[String]| list.iter().any(|entry| OsStr::new(entry) == name);
    if listed(&given.withheld) {
        return Some(Reason::Source);
    }
    if listed(&given.keep) {
        return None;
    }
    looks(&name.to_string_lossy(), &value.to_string_lossy())
}

/// Whether a variable is one that `run` keeps back.
pub(super) fn looks_like_one(name: &str, value: &str) -> bool {
    looks(name, value).is_some()
}

fn looks(name: &str, value: &str) -> Option<Reason> {
    if value.is_empty() {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    if ACCESS.contains(&upper.as_str()) || upper.starts_with("KEYFERRY_") {
        return Some(Reason::Access);
    }
    if names_a_credential(&upper) {
        return Some(Reason::Name);
    }
    is_a_credential(value).then_some(Reason::Value)
}

/// By the last word of the name, less what only says how the value is written down.
fn names_a_credential(upper: &str) -> bool {
    // git numbers these; "key" there is a setting's name.
    if upper.starts_with("GIT_CONFIG_")
        || HARMLESS.contains(&upper)
        || upper.ends_with("_PUBLIC_KEY")
        || upper.ends_with("_PUBLISHABLE_KEY")
    {
        return false;
    }
    if KNOWN.contains(&upper) || upper.contains("PASSWORD") || upper.contains("PASSPHRASE") {
        return true;
    }
    let mut words = upper
        .split(['_', '-', '.', ':', '/'])
        .rev()
        .filter(|word| !word.is_empty());
    let last = words.find(|word| !FORMS.contains(word) && !word.bytes().all(|b| b.is_ascii_digit()));
    last.is_some_and(|word| WORDS.contains(&word) || word.ends_with("APIKEY") || word.ends_with("AUTHTOKEN"))
}

/// By a prefix that only a credential has, a key's first line, or a password inside a URL.
fn is_a_credential(value: &str) -> bool {
    let value = value.trim();
    let prefixed = |prefix: &&str| {
        let rest = value.strip_prefix(*prefix).unwrap_or_default();
        rest.len() >= 16 && !rest.contains([' ', '/', ':'])
    };
    PREFIXES.iter().any(prefixed)
        || is_a_private_key(value)
        || value.to_ascii_lowercase().contains("authorization:")
        || password_in_url(value)
}

/// A PEM block of a private key, of whatever kind (RFC 7468 §10).
pub(super) fn is_a_private_key(text: &str) -> bool {
    let head = text.find("-----BEGIN ").and_then(|at| text.get(at..));
    head.and_then(|block| block.lines().next())
        .is_some_and(|line| line.contains("PRIVATE KEY-----"))
}

/// `scheme://user:password@host`, for any scheme.
fn password_in_url(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let has = user
        .and_then(|user| user.split_once(':'))
        .is_some_and(|(_, password)| !password.is_empty());
    has && !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Ways in that hold no secret themselves.
const ACCESS: &[&str] = &[
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "SSH_ASKPASS",
    "GIT_ASKPASS",
    "SUDO_ASKPASS",
    "VSCODE_GIT_IPC_HANDLE",
    "VSCODE_GIT_ASKPASS_MAIN",
    "VSCODE_GIT_ASKPASS_NODE",
    "GPG_AGENT_INFO",
    "GNOME_KEYRING_CONTROL",
    // The bus on which the desktop's secret service answers.
    "DBUS_SESSION_BUS_ADDRESS",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];

/// Credentials whose names follow no pattern.
const KNOWN: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "SECRET_KEY_BASE",
    "MYSQL_PWD",
    "REDISCLI_AUTH",
    "NPM_AUTH",
    "NPM_CONFIG__AUTH",
    "DOCKER_AUTH_CONFIG",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_STORAGE_CONNECTION_STRING",
    "CODEX_AUTH_JSON",
    "NETRC",
    "KUBECONFIG",
];

/// Named like one, but none.
const HARMLESS: &[&str] = &["GPG_KEY", "GPG_KEYS", "XDG_SEAT_KEY", "SSH_ORIGINAL_KEY"];

/// Last words of a credential's name.
const WORDS: &[&str] = &[
    "TOKEN",
    "SECRET",
    "SECRETS",
    "KEY",
    "PASSWD",
    "PASS",
    "PAT",
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "COOKIE",
    "JWT",
    "AUTHTOKEN",
    "BEARER",
];

/// Last words that only tell how the value is written or for which place it is.
const FORMS: &[&str] = &[
    "FILE",
    "PATH",
    "B64",
    "BASE64",
    "JSON",
    "PEM",
    "TEXT",
    "VALUE",
    "ID",
    "PROD",
    "PRODUCTION",
    "STAGING",
    "DEV",
    "TEST",
    "LIVE",
    "RO",
    "RW",
];

/// How well-known tokens begin.
const PREFIXES: &[&str] = &[
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "glrt-",
    "gldt-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "hf_",
    "npm_",
    "pypi-",
    "dop_v1_",
    "shpat_",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "gsk_",
    "xai-",
    "r8_",
    "lin_api_",
    "ntn_",
    "whsec_",
    "SG.",
    "vck_",
    "fly_",
    "FlyV1",
    "eyJhbGciOi",
    "age-secret-key-1",
    "AGE-SECRET-KEY-1",
    "figd_",
    "dckr_pat_",
    "rubygems_",
    "tskey-",
    "ops_",
    "hvs.",
    "hvb.",
    "nvapi-",
    "sbp_",
    "pplx-",
    "tvly-",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_known_by_its_name() {
        for name in [
            "GITHUB_TOKEN",
            "MY_SERVICE_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "PGPASSWORD",
            "DB_PASSWORD_PROD",
            "DB_PASS",
            "STRIPE_SECRET_KEY_TEST",
            "CLIENT_SECRET",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "GOOGLE_CREDENTIALS_BASE64",
            "MYSQL_PWD",
            "NPM_CONFIG_//REGISTRY.EXAMPLE/:_AUTHTOKEN",
            "OPENAI_API_KEY_2",
            "SOME_APIKEY",
        ] {
            assert!(names_a_credential(name), "{name}");
        }
        for name in [
            "PATH",
            "PWD",
            "OLDPWD",
            "HOME",
            "MAX_TOKENS",
            "TOKENIZERS_PARALLELISM",
            "KEYBOARD_LAYOUT",
            "GPG_KEY",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
            "VITE_PUBLIC_KEY",
            "LS_COLORS",
            "SSH_CONNECTION",
            "MONKEY",
            "COMPASS",
            "GITHUB_TOKEN_TYPE",
            "XDG_SESSION_ID",
        ] {
            assert!(!names_a_credential(name), "{name}");
        }
    }

    #[test]
    fn a_credential_is_known_by_its_value() {
        for value in [
            "ghp_0123456789abcdefghij0123456789abcdef",
            "postgres://app:hunter2@db.example/x",
            "-----BEGIN OPENSSH PRIVATE \
             KEY-----\nb3Bl\n",
            "AUTHORIZATION: basic eDp5",
        ] {
            assert!(is_a_credential(value), "{value}");
        }
        for value in [
            "https://example.com/a@b:c",
            "http://user@host/",
            "sk-short",
            "npm_config",
            "/usr/bin:/bin",
            "unix:path=/run/x",
        ] {
            assert!(!is_a_credential(value), "{value}");
        }
    }
}
