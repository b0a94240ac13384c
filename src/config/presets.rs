//! Ready rules for well-known services, one file each in `config/presets`.

use super::check;
use super::leaf::{At, Many, Named, Text};
use super::mistakes::Mistakes;
use super::model::{Config, SecretSpec, Source};
use super::raw::{RawRule, SecretMap};
use super::read::{Findings, Read, section};
use super::tree::{self, Node, Value};
use crate::base::glob::HostPattern;
use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

section! {
    /// A preset as its file says it.
    RawPreset, "a preset", {
        /// What the service is.
        "description" description: Text,
        /// The variables that carry its credential; the usual one first. None: the agent logs in by itself.
        "env" env: Many<Text>,
        /// Further credentials that its rules name, each with the variable that carries it.
        "more" more: Option<Named<Text>>,
        /// The same of those that its rules can do without.
        "maybe" maybe: Option<Named<Text>>,
        /// What it must be told of the user, which is no secret: each with what it is. `${with:NAME}` stands for it in any text.
        "with" with: Option<Named<Text>>,
        /// The same of what need not be told: each with what it is then.
        "defaults" defaults: Option<Named<Text>>,
        /// Tokens that its rules name, and that are made with its credential.
        "tokens" tokens: Option<Named<SecretMap>>,
        /// Its rules. The name of one is a suffix; whatever other secret they name is the preset's own.
        "rules" rules: Vec<RawRule>,
    }
}

/// A ready rule, or a few that belong together, with one credential.
#[derive(Debug)]
pub struct Preset {
    /// Its name, and that of its secret.
    pub name: &'static str,
    /// What the service is.
    pub description: String,
    /// The variables that carry its credential; the usual one first. None where the agent logs in by itself.
    pub env: Vec<String>,
    /// Further credentials that its rules name.
    pub more: Vec<More>,
    /// What it must be told, and what that is.
    pub with: Vec<(String, String)>,
    /// What it may be told, and what that is otherwise.
    pub defaults: Vec<(String, String)>,
    rules: Vec<RawRule>,
    tree: Node,
}

/// What a preset stands for, once it is told what it needs.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) rules: Vec<RawRule>,
    pub(super) tokens: Vec<(String, SecretMap)>,
}

/// A credential of a preset beside its own.
#[derive(Debug)]
pub struct More {
    /// The secret's name.
    pub name: String,
    /// The variable that carries it.
    pub variable: String,
    /// Whether the preset's rules can do without.
    pub optional: bool,
}

impl More {
    /// It, from its variable.
    pub(super) fn spec(&self) -> SecretSpec {
        SecretSpec {
            name: self.name.as_str().into(),
            source: Source::Env(self.variable.clone()),
            document: false,
            field: None,
            placeholder: None,
            agent_env: vec![self.variable.clone()],
        }
    }
}

/// A preset whose credential the caller's environment holds.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The preset.
    pub preset: &'static Preset,
    /// The variables that are set; the value is taken from the first, and the agent gets the
    /// placeholder in all.
    pub variables: Vec<String>,
    /// Its further credentials that are set.
    pub more: Vec<&'static More>,
}

impl Preset {
    /// Its rules, each with the suffix of its name.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&str, &RawRule)> {
        self.rules
            .iter()
            .map(|r| (r.name.as_ref().map_or("", |n| n.as_str()), r))
    }

    /// The hosts its rules speak of, with the names of what it must be told in capitals.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        let told = self.with.iter().map(|(name, _)| (name, name.to_uppercase()));
        let told = told.chain(self.defaults.iter().map(|(name, value)| (name, value.clone())));
        let told: Vec<(String, String)> = told.map(|(name, value)| (mark(name), value)).collect();
        let hosts = self.rules.iter().filter_map(|r| r.host.as_ref()).flat_map(|h| &h.0);
        hosts.map(move |host| {
            told.iter()
                .fold(host.value.clone(), |host, (mark, value)| host.replace(mark, value))
        })
    }

    /// Whether it works with nothing but its credential.
    pub fn needs_nothing(&self) -> bool {
        self.with.is_empty()
    }

    /// Its rules and tokens, told this; what is not told is as the preset has it.
    pub(super) fn filled(&self, told: &HashMap<&str, Text>) -> Option<Filled> {
        let mut values: HashMap<&str, Text> = self
            .defaults
            .iter()
            .map(|(name, value)| (name.as_str(), text(value.clone())))
            .collect();
        values.extend(told.iter().map(|(name, value)| (*name, value.clone())));
        let mut tree = self.tree.clone();
        fill(&mut tree, &values);
        let (_, yaml) = FILES.iter().find(|(name, _)| *name == self.name)?;
        let raw = RawPreset::read(&tree, &mut Findings::new(yaml))?;
        let tokens = raw.tokens.into_iter().flat_map(|named| named.0);
        Some(Filled {
            rules: raw.rules,
            tokens: tokens.filter_map(|(name, token)| Some((name.value, token?))).collect(),
        })
    }

    /// Its secret, from the first of `variables`.
    pub(super) fn spec(&self, variables: &[String]) -> SecretSpec {
        SecretSpec {
            name: self.name.into(),
            source: Source::Env(variables.first().cloned().unwrap_or_default()),
            document: false,
            field: None,
            placeholder: None,
            agent_env: variables.to_vec(),
        }
    }
}

/// Every preset, in the order in which their rules are tried.
pub fn all() -> &'static [Preset] {
    static ALL: LazyLock<Vec<Preset>> = LazyLock::new(|| {
        let read = FILES.iter().filter_map(|(name, text)| read(name, text).ok());
        read.collect()
    });
    &ALL
}

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|p| p.name == name)
}

/// The presets of whose variables at least one is set, and each of those of its further credentials.
pub fn for_environment(is_set: impl Fn(&str) -> bool) -> Vec<Chosen> {
    let ready = all().iter().filter(|preset| preset.needs_nothing());
    let chosen = ready.map(|preset| Chosen {
        preset,
        variables: preset.env.iter().filter(|v| is_set(v)).cloned().collect(),
        more: preset.more.iter().filter(|more| is_set(&more.variable)).collect(),
    });
    let whole = |c: &Chosen| {
        c.preset
            .more
            .iter()
            .filter(|more| !is_set(&more.variable))
            .all(|more| more.optional)
    };
    chosen.filter(|c| !c.variables.is_empty() && whole(c)).collect()
}

impl Config {
    /// The config of a run without a file: the chosen presets, and hosts that may be reached
    /// without a credential. Whatever else is denied.
    ///
    /// # Errors
    /// When the user has no home to keep the CA in.
    pub fn from_presets(chosen: &[Chosen], allow_hosts: &[HostPattern]) -> Result<Self, Mistakes> {
        let mut found = Findings::new("");
        check::of_presets(chosen, allow_hosts, &mut found)
            .ok_or_else(|| Mistakes::errors(found.errors, Path::new("presets"), ""))
    }
}

fn read(name: &'static str, text: &str) -> Result<Preset, Mistakes> {
    let origin = Path::new(name);
    let tree = tree::read(text).map_err(|m| Mistakes::errors(vec![m], origin, text))?;
    let mut found = Findings::new(text);
    let raw = RawPreset::read(&tree, &mut found);
    let pairs = |named: Option<&Named<Text>>| -> Vec<(String, String)> {
        let named = named.into_iter().flat_map(|named| &named.0);
        named
            .filter_map(|(name, about)| Some((name.value.clone(), about.as_ref()?.value.clone())))
            .collect()
    };
    match raw {
        Some(raw) if found.errors.is_empty() => Ok(Preset {
            name,
            description: raw.description.value,
            env: raw.env.0.into_iter().map(|v| v.value).collect(),
            more: more(raw.more, false).chain(more(raw.maybe, true)).collect(),
            with: pairs(raw.with.as_ref()),
            defaults: pairs(raw.defaults.as_ref()),
            rules: raw.rules,
            tree,
        }),
        _ => Err(Mistakes::errors(found.errors, origin, text)),
    }
}

/// A text that stands nowhere in the user's config.
fn text(value: String) -> Text {
    At {
        value,
        at: super::place::Place::default(),
    }
}

/// What stands in a preset for something that it is told.
fn mark(name: &str) -> String {
    format!("${{with:{name}}}")
}

/// Puts what was told in the place of its `${with:NAME}`. A text with some of it stands where the user wrote that.
fn fill(node: &mut Node, values: &HashMap<&str, Text>) {
    match &mut node.value {
        Value::Text(text) => {
            for (name, value) in values {
                let mark = mark(name);
                if text.contains(&mark) {
                    *text = text.replace(&mark, value);
                    node.at = value.at;
                }
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| fill(item, values)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| fill(value, values)),
        Value::Null | Value::Bool(_) | Value::Number => {}
    }
}

fn more(named: Option<Named<Text>>, optional: bool) -> impl Iterator<Item = More> {
    let named = named.into_iter().flat_map(|named| named.0);
    named.filter_map(move |(name, variable)| {
        Some(More {
            name: name.value,
            variable: variable?.value,
            optional,
        })
    })
}

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../config/presets/", $name, ".yaml"))),)*]
    };
}

/// In alphabetical order, but for presets that share a host: there the first wins.
const FILES: &[(&str, &str)] = files! {
    "airtable" "anthropic" "anthropic-login" "anthropic-oauth" "anthropic-token" "asana" "auth0" "aws" "azure" "brave-search"
    "bybit" "cerebras" "cloudflare" "cohere" "datadog" "deepseek" "digitalocean" "discord" "dockerhub" "ebay" "elevenlabs" "figma"
    "fireworks" "gemini" "ghcr" "github" "github-app" "github-login" "gitlab" "google-cloud" "groq" "huggingface" "linear"
    "mistral" "netlify" "notion" "okx" "openai" "openrouter" "paypal" "perplexity" "quay" "replicate" "resend" "salesforce"
    "sendgrid" "sentry" "slack" "spotify" "stripe" "supabase" "tavily" "telegram" "together" "twilio" "twitch" "vercel" "voyage"
    "xai"
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
    use super::*;
    use crate::base::host::Target;
    use crate::config::model::{Action, CaSource};

    #[test]
    fn every_preset_file_is_in_the_table_and_without_mistake() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/presets");
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let (name, text) = FILES
                .iter()
                .find(|(n, _)| *n == name)
                .expect("a preset that is not in the table");
            read(name, text).map_err(|m| m.render(false)).unwrap();
        }
        assert_eq!(all().len(), FILES.len());
    }

    #[test]
    fn every_preset_expands_to_rules_that_inject_its_secrets() {
        for preset in all() {
            let told: Vec<String> = preset.with.iter().map(|(name, _)| format!("{name}: \"7\"")).collect();
            let with = if told.is_empty() {
                String::new()
            } else {
                format!(", with: {{ {} }}", told.join(", "))
            };
            let text = format!(
                "ca: {{ memory: true }}\naudit: none\nrules: [{{ preset: {}{with} }}]",
                preset.name
            );
            let loaded = Config::parse(&text, Path::new("keyferry.yaml"))
                .map_err(|m| m.render(false))
                .unwrap();
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
            let more = preset.more.iter().filter(|more| !more.optional).count();
            let made = |spec: &&SecretSpec| matches!(spec.source, Source::Minted(_));
            let given = loaded.config.secrets.len() - loaded.config.secrets.iter().filter(made).count();
            assert_eq!(given, preset.env.len().min(1) + more, "{}", preset.name);
            assert!(!format!("{:?}", loaded.config).contains("${with"), "{}", preset.name);
            if !preset.env.is_empty() {
                assert_eq!(&*loaded.config.secrets[0].name, preset.name);
            }
            let injects = |rule: &crate::config::model::Rule| matches!(&rule.action, Action::Intercept { inject, plaintext: false, .. } if !inject.is_empty());
            assert!(
                loaded.config.rules.iter().any(injects),
                "{} injects nothing",
                preset.name
            );
        }
    }

    #[test]
    fn only_presets_whose_variable_is_set_are_chosen() {
        // One that must be told something cannot be chosen without a config.
        let set = ["GH_TOKEN", "GITHUB_TOKEN", "OPENAI_API_KEY", "SPOTIFY_CLIENT_SECRET"];
        let chosen = for_environment(|v| set.contains(&v));
        let names: Vec<_> = chosen.iter().map(|c| (c.preset.name, c.variables.join(","))).collect();
        let github = ("github", "GITHUB_TOKEN,GH_TOKEN".to_owned());
        assert_eq!(names, [github, ("openai", "OPENAI_API_KEY".to_owned())]);
    }

    #[test]
    fn a_preset_of_several_credentials_wants_all_but_those_it_can_do_without() {
        let given = |set: &[&str]| {
            let chosen = for_environment(|v| set.contains(&v));
            let config = Config::from_presets(&chosen, &[]).unwrap();
            let names: Vec<_> = config.secrets.iter().map(|s| s.name.to_string()).collect();
            let tokens = config.rules.iter().filter_map(|rule| match &rule.action {
                Action::Intercept { inject, .. } => inject.first().map(|one| one.secrets().len()),
                _ => None,
            });
            (names.join(" "), tokens.max())
        };
        assert_eq!(given(&["AWS_SECRET_ACCESS_KEY"]), (String::new(), None));
        let two = ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"];
        assert_eq!(given(&two), ("aws aws-access-key-id".to_owned(), Some(2)));
        let three = [two[0], two[1], "AWS_SESSION_TOKEN"];
        assert_eq!(
            given(&three),
            ("aws aws-access-key-id aws-session-token".to_owned(), Some(3))
        );
    }

    #[test]
    fn a_run_without_a_config_reaches_its_presets_and_allowed_hosts_only() {
        let chosen = for_environment(|v| v == "OPENAI_API_KEY");
        let allow = [HostPattern::parse("docs.example.com").unwrap()];
        let config = Config::from_presets(&chosen, &allow).unwrap();
        assert!(matches!(config.ca, CaSource::Dir(_)));
        let reached = |host: &str| {
            let target = Target::parse(host, Some(443)).unwrap();
            config.rules.iter().any(|r| r.hosts.iter().any(|h| h.matches(&target)))
        };
        assert!(reached("api.openai.com") && reached("docs.example.com"));
        assert!(!reached("api.github.com"));
        assert_eq!(config.secrets[0].agent_env, ["OPENAI_API_KEY"]);
    }
}
