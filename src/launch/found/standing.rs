//! Credentials that no rule can take over: keys that sign, and stores of other tools.

use super::{Around, Found, path_from, text};
use crate::launch::withheld::is_a_private_key;
use std::path::{Path, PathBuf};

pub(super) fn look(around: &Around) -> Vec<Found> {
    let mut found = aws(&path_from(around, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"));
    found.extend(ssh_keys(&around.home.join(".ssh")));
    found.extend(service_accounts(&around.here));
    let there = FILES
        .iter()
        .map(|(path, advice)| (around.home.join(path), *advice))
        .filter(|(path, _)| path.exists());
    found.extend(there.map(|(path, advice)| Found::stays(&path, "", advice)));
    let kube = path_from(around, "KUBECONFIG", ".kube/config");
    if kube.is_file() {
        found.push(Found::stays(&kube, "", HIDE));
    }
    found
}

/// One finding a profile.
fn aws(path: &Path) -> Vec<Found> {
    let text = text(path).unwrap_or_default();
    let mut profile = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            profile = name.trim_end_matches(']');
        } else if line.starts_with("aws_secret_access_key") {
            found.push(Found::stays(path, profile, SIGNS));
        }
    }
    found
}

fn ssh_keys(dir: &Path) -> Vec<Found> {
    let key = |path: &PathBuf| text(path).is_some_and(|text| is_a_private_key(&text));
    files(dir)
        .filter(key)
        .map(|path| Found::stays(&path, "", SSH))
        .collect()
}

/// Keys of Google service accounts, by what is in the file.
fn service_accounts(dir: &Path) -> Vec<Found> {
    let json = files(dir).filter(|path| path.extension().is_some_and(|it| it == "json"));
    let account = |path: &PathBuf| {
        text(path).is_some_and(|text| text.contains("\"service_account\"") && text.contains("\"private_key\""))
    };
    json.filter(account)
        .map(|path| Found::stays(&path, "", ACCOUNT))
        .collect()
}

/// The files right in a directory, by name.
fn files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths.into_iter()
}

const SIGNS: &str = "it signs requests: keep it as two secrets and let a rule sign with them (`sigv4`, docs/aws.md); keep the file out of the \
agent's sandbox";
const SSH: &str = "hide ~/.ssh from the agent (`run` keeps the SSH agent's socket from it); git goes over HTTPS, with a rule for the host";
const CLAUDE: &str = "a login of Claude Code's: say `/logout` there, add `- preset: anthropic-login` to the rules, and log in anew through \
     Keyferry, which keeps the tokens; or keep the file out of the agent's sandbox";
const ACCOUNT: &str = "a service account's key: write `google-cloud: { file: PATH }` under `secrets` and `- preset: google-cloud` under \
     `rules`, and keep the file out of the agent's sandbox";
const HIDE: &str = "keep it out of the agent's sandbox";

const FILES: &[(&str, &str)] = &[
    (".config/gcloud/application_default_credentials.json", HIDE),
    (".config/gcloud/credentials.db", HIDE),
    (".config/gcloud/access_tokens.db", HIDE),
    (".azure/msal_token_cache.json", HIDE),
    (".vault-token", HIDE),
    (".pgpass", HIDE),
    (".my.cnf", HIDE),
    (".boto", HIDE),
    (".s3cfg", HIDE),
    (".config/rclone/rclone.conf", HIDE),
    (".config/op/config", HIDE),
    (".config/stripe/config.toml", HIDE),
    (".config/doctl/config.yaml", HIDE),
    (".config/hub", HIDE),
    (".composer/auth.json", HIDE),
    (".config/composer/auth.json", HIDE),
    (".m2/settings.xml", HIDE),
    (".gradle/gradle.properties", HIDE),
    (".bundle/config", HIDE),
    (".gem/credentials", HIDE),
    (".claude/.credentials.json", CLAUDE),
    (".codex/auth.json", HIDE),
    (".gnupg/private-keys-v1.d", HIDE),
    (".local/share/keyrings", HIDE),
    (".password-store", HIDE),
];
