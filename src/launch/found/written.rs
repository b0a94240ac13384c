//! The config that moves what was found out of the agent's reach.

use super::{Fate, Found, Move, Origin, Place, Shown, Use};
use crate::base::secret::Secret;
use std::collections::BTreeSet;
use std::fmt::Write;

/// What becomes of everything found.
#[derive(Debug, Default)]
pub struct Plan {
    /// Those that get a secret and a rule.
    pub moved: Vec<Moved>,
    /// Those that stay, where, and what to do about them.
    pub stays: Vec<(Place, &'static str)>,
}

/// A credential with a secret and a rule.
#[derive(Debug)]
pub struct Moved {
    /// Where it was found.
    pub place: Place,
    /// How it is moved; its name is unique in the plan.
    pub how: Move,
    /// Whether Keyferry reads it from its encrypted file, where someone has to put it.
    pub stored: bool,
}

impl Plan {
    /// Sorts what was found. With `import`, every value is to be copied into the encrypted file;
    /// without, only those that Keyferry cannot read where they are.
    pub fn new(found: Vec<Found>, import: bool) -> Self {
        let mut plan = Self::default();
        for Found { place, fate } in found {
            match fate {
                Fate::Stays(advice) => plan.stays.push((place, advice)),
                Fate::Moves(how) if plan.has_rule(&how.rule) => plan.stays.push((place, ANOTHER)),
                Fate::Moves(mut how) => {
                    how.name = plan.free_name(&how.name);
                    let stored = import || how.source == Origin::Copied;
                    plan.moved.push(Moved {
                        place,
                        how: *how,
                        stored,
                    });
                }
            }
        }
        plan
    }

    /// The first rule for a host is the one used, so a second one would be dead.
    fn has_rule(&self, rule: &Use) -> bool {
        self.moved
            .iter()
            .any(|it| it.how.rule == *rule || same_host(&it.how.rule, rule))
    }

    fn free_name(&self, name: &str) -> String {
        let taken: BTreeSet<&str> = self.moved.iter().map(|it| it.how.name.as_str()).collect();
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|name| !taken.contains(name.as_str()))
            .unwrap_or_default()
    }

    /// What has to be put into the encrypted file, by name.
    pub fn into_stored(self) -> impl Iterator<Item = (String, Secret)> {
        self.moved
            .into_iter()
            .filter(|it| it.stored)
            .map(|it| (it.how.name, it.how.value))
    }

    /// The config.
    pub fn yaml(&self) -> String {
        let mut text = String::from(HEAD);
        text.push_str(if self.moved.is_empty() {
            "secrets: {}\n"
        } else {
            "secrets:\n"
        });
        for it in &self.moved {
            let _ = writeln!(text, "  {}: {{ {} }}", it.how.name, source(it));
        }
        text.push_str("\n# The first rule that matches is the one used; what no rule allows is denied.\n");
        text.push_str(if self.moved.is_empty() {
            "rules: []\n"
        } else {
            "rules:\n"
        });
        for it in &self.moved {
            let _ = writeln!(text, "  # {}", it.place.to_string().replace(['\n', '\r'], " "));
            text.push_str(&rule(&it.how));
        }
        text
    }
}

fn source(it: &Moved) -> String {
    let place = match &it.how.source {
        Origin::Variable(name) if !it.stored => format!("env: {}", quoted(name)),
        Origin::File(path) if !it.stored => format!("file: {}", quoted(&path.to_string_lossy())),
        _ => format!("store: {}", it.how.name),
    };
    let variables: Vec<String> = it.how.variables.iter().map(|name| quoted(name)).collect();
    if variables.is_empty() {
        return place;
    }
    format!("{place}, agent_env: [{}]", variables.join(", "))
}

fn rule(how: &Move) -> String {
    let name = &how.name;
    match &how.rule {
        Use::Preset(preset) => format!("  - {{ preset: {preset}, secret: {name} }}\n"),
        Use::Host { host, shown } => {
            let inject = match shown {
                Shown::Bearer => format!("{{ bearer: {name} }}"),
                Shown::Basic(user) => format!("{{ basic: {{ user: {}, password: {name} }} }}", quoted(user)),
                Shown::Encoded => format!("{{ header: authorization, value: \"Basic ${{{name}}}\" }}"),
            };
            format!("  - name: {name}\n    host: {}\n    inject: [{inject}]\n", quoted(host))
        }
    }
}

fn same_host(one: &Use, other: &Use) -> bool {
    matches!((one, other), (Use::Host { host, .. }, Use::Host { host: same, .. }) if host == same)
}

/// A JSON string, which YAML reads as it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const HEAD: &str = "\
# Written by `keyferry init`. It holds no secret: only where each one lives, and which requests get it.
# `keyferry check` says whether it is sound, `keyferry explain GET https://…` what a request would get.

listen: [127.0.0.1:8080]

";

const ANOTHER: &str =
    "another credential for the same service is used: delete this one, or change the config to use it";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::{Around, look};
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    /// A home in which every kind of credential lies about; each value has `s3cr3t` in it.
    fn home(dir: &Path) -> Around {
        let files = [
            (
                ".netrc",
                "machine api.one.test login u password s3cr3t1\nmachine github.com login x password ghp_s3cr3t2\n",
            ),
            (".git-credentials", "https://u:s3cr3t3@git.two.test\n"),
            (".config/gh/hosts.yml", "github.com:\n  oauth_token: gho_s3cr3t4\n"),
            (".npmrc", "//npm.three.test/:_authToken=s3cr3t5\n"),
            (
                ".pypirc",
                "[x]\nrepository = https://up.four.test/\nusername = __token__\npassword = s3cr3t6\n",
            ),
            (".cache/huggingface/token", "hf_s3cr3t7\n"),
            (".aws/credentials", "[default]\naws_secret_access_key = s3cr3t8\n"),
            (
                ".ssh/id_ed25519",
                "-----BEGIN OPENSSH PRIVATE \
                 KEY-----\ns3cr3t9\n",
            ),
            (".kube/config", "token: s3cr3t10"),
            (
                "work/.env",
                "ANTHROPIC_API_KEY='sk-ant-s3cr3t11' # mine\nexport DB_PASSWORD=s3cr3t12\nPORT=80\nOPENAI_API_KEY=${X}\n",
            ),
            (
                "work/key.json",
                r#"{"type": "service_account", "private_key": "s3cr3t13"}"#,
            ),
        ];
        for (path, text) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let vars = [
            ("GITHUB_TOKEN", "ghp_s3cr3t14"),
            ("GH_TOKEN", "ghp_s3cr3t14"),
            ("MY_SECRET", "s3cr3t15"),
            // Its preset must be told more than this.
            ("SPOTIFY_CLIENT_SECRET", "s3cr3t16"),
            ("LANG", "C"),
        ];
        Around {
            home: dir.into(),
            here: dir.join("work"),
            vars: vars.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }

    #[test]
    fn what_is_found_moves_into_a_sound_config_and_no_value_is_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(look(&home(dir.path())), false);
        let yaml = plan.yaml();
        assert!(!format!("{yaml}{plan:?}").contains("s3cr3t"), "{yaml}");
        let names: Vec<&str> = plan.moved.iter().map(|it| it.how.name.as_str()).collect();
        let all = [
            "github",
            "anthropic",
            "api-one-test",
            "git-two-test",
            "huggingface",
            "npm-three-test",
            "up-four-test",
        ];
        assert_eq!(names, all);
        assert!(
            yaml.contains("github: { env: \"GITHUB_TOKEN\", agent_env: [\"GITHUB_TOKEN\", \"GH_TOKEN\"] }"),
            "{yaml}"
        );
        assert!(
            yaml.contains("anthropic: { store: anthropic, agent_env: [\"ANTHROPIC_API_KEY\"] }"),
            "{yaml}"
        );
        let stays: Vec<String> = plan.stays.iter().map(|(place, _)| place.to_string()).collect();
        let expected = [
            "$MY_SECRET",
            "$SPOTIFY_CLIENT_SECRET",
            "(DB_PASSWORD)",
            "(github.com)",
            "(github.com)",
            "(github.com)",
            "(default)",
            "id_ed25519",
            "key.json",
            "config",
        ];
        assert_eq!(stays.len(), expected.len(), "{stays:?}");
        assert!(
            stays.iter().zip(expected).all(|(stays, end)| stays.ends_with(end)),
            "{stays:?}"
        );

        sound(&yaml);
    }

    /// It loads, and nothing in it is odd.
    fn sound(yaml: &str) {
        let loaded = Config::parse(yaml, Path::new("keyferry.yaml"));
        let odd = loaded
            .map(|it| it.warnings.to_string())
            .unwrap_or_else(|mistakes| mistakes.to_string());
        assert!(odd.is_empty(), "{odd}\n{yaml}");
    }

    #[test]
    fn importing_stores_every_value_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(look(&home(dir.path())), true);
        assert!(plan.yaml().contains("github: { store: github, "));
        let github = plan
            .into_stored()
            .find(|(name, _)| name == "github")
            .map(|(_, value)| value);
        assert!(github.unwrap().matches(b"ghp_s3cr3t14"));
    }

    #[test]
    fn nothing_found_is_a_sound_config_too() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = Around {
            home: dir.path().into(),
            here: dir.path().into(),
            vars: Default::default(),
        };
        let loaded = Config::parse(&Plan::new(look(&nothing), true).yaml(), Path::new("keyferry.yaml"));
        let warnings = loaded.map(|it| it.warnings.to_string()).unwrap_or_default();
        assert!(warnings.contains("every request is denied"), "{warnings}");
    }
}
