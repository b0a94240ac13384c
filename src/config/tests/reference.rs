//! The schema, the reference made from it, and the files both speak of, held to each other.

use super::super::Config;
use super::super::presets::{self, RawPreset};
use super::super::schema::{schema, schema_of};
use serde_json::Value as Json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a file with what it is made from; with `UPDATE_SNAPSHOTS` set, writes it instead.
#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
fn is_current(path: &str, made: &str) {
    let path = root().join(path);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "{} is not what the code makes of it; run `UPDATE_SNAPSHOTS=1 cargo test --lib config::`",
        path.display()
    );
}

fn yaml(path: &Path) -> Json {
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn assert_valid(schema: &Json, instance: &Json, name: &str) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let faults: Vec<String> = validator
        .iter_errors(instance)
        .map(|e| format!("{name}: {} at {}", e, e.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_kept_schema_is_the_one_the_code_makes() {
    is_current("config/keyferry.schema.json", &format!("{:#}\n", schema()));
}

#[test]
fn the_reference_config_loads_without_a_warning_and_fits_the_schema() {
    let path = root().join("config/keyferry.yaml");
    let loaded = Config::load(&path).map_err(|m| m.render(false)).expect("it loads");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_valid(&schema(), &yaml(&path), "keyferry.yaml");
}

#[test]
fn the_reference_config_shows_every_key() {
    let text = std::fs::read_to_string(root().join("config/keyferry.yaml")).unwrap();
    let schema = schema();
    let sections = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for key in sections
        .filter_map(|s| s["properties"].as_object())
        .flat_map(|p| p.keys())
    {
        assert!(
            text.contains(&format!("{key}:")),
            "`{key}` is missing from config/keyferry.yaml"
        );
    }
}

#[test]
fn every_preset_fits_the_schema() {
    let schema = schema_of::<RawPreset>();
    for preset in presets::all() {
        let path = root().join(format!("config/presets/{}.yaml", preset.name));
        assert_valid(&schema, &yaml(&path), preset.name);
    }
}

#[test]
fn the_schema_refuses_what_the_code_refuses() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for bad in [
        "lisen: []",
        "secrets: { a: { env: A, file: b } }",
        "secrets: { a: sk-0123456789 }",
        "rules: [{ host: a.test, inject: [{ bearer: a, query: b }] }]",
        "rules: [{ host: a.test, limits: { time: 30 } }]",
        "rules: [{ preset: nobody }]",
        "rules:",
        "agents: { a: {} }",
        "audit: loud",
        "ca: { dir: a, memory: true }",
    ] {
        let instance: Json = serde_yaml::from_str(bad).unwrap();
        assert!(!validator.is_valid(&instance), "the schema accepts {bad}");
        assert!(
            Config::parse(bad, Path::new("keyferry.yaml")).is_err(),
            "the code accepts {bad}"
        );
    }
}

#[test]
fn the_kept_reference_is_the_one_the_code_makes() {
    is_current("docs/config.md", &reference());
}

/// The parts of the reference: a heading, what stands there, and the type in the schema.
const PARTS: &[(&str, &str)] = &[
    ("`listen`: each listener", "ListenMap"),
    ("`admin`", "AdminMap"),
    ("`ca`", "RawCa"),
    ("`upstream`", "RawUpstream"),
    ("`secrets`: each secret", "SecretMap"),
    ("`agents`: each agent", "RawAgent"),
    ("`client_certificate`", "RawCertificate"),
    ("`rules`: each rule", "RawRule"),
    ("`inject`: each injection", "RawInject"),
    ("`capture`", "RawCapture"),
    ("`basic`", "RawBasic"),
    ("`hmac`", "RawHmac"),
    ("`sigv4`", "RawSigV4"),
    ("`mtls`", "RawMtls"),
    ("`exec` of an injection", "RawProgram"),
    ("`vault`", "RawVault"),
    ("`vault` of a secret", "RawVaultEntry"),
    ("`aws`", "RawAws"),
    ("`aws_secret`", "RawAwsSecret"),
    ("`aws_parameter`", "RawAwsParameter"),
    ("`kubernetes`", "RawKubernetes"),
    ("`kubernetes_secret`", "RawKubernetesSecret"),
    ("`gcp_secret`", "RawGcpSecret"),
    ("`azure_secret`", "RawAzureSecret"),
    ("`onepassword`", "RawOnePassword"),
    ("`onepassword_item`", "RawOnePasswordItem"),
    ("`keyring`", "RawKeyring"),
    ("`secret_service`", "RawSecretService"),
    ("`oauth2`", "RawOAuth2"),
    ("`jwt`", "RawJwt"),
    ("`github_app`", "RawGitHubApp"),
    ("`gcp`", "RawGcp"),
    ("`azure`", "RawAzure"),
    ("`limits` of a rule", "RawRuleLimits"),
    ("`audit`", "AuditMap"),
    ("`limits`", "RawLimits"),
];

fn reference() -> String {
    let schema = schema();
    let mut out = String::from(INTRODUCTION);
    section(&mut out, "The whole", &schema);
    for (heading, name) in PARTS {
        section(&mut out, heading, &schema["$defs"][name]);
    }
    let told = schema["$defs"].as_object().unwrap().len();
    assert_eq!(told, PARTS.len(), "a type of the schema is missing from the reference");
    out.push_str(PRESETS);
    for preset in presets::all() {
        let mut hosts: Vec<String> = preset.hosts().map(|h| format!("`{h}`")).collect();
        hosts.dedup();
        let more = preset.more.iter().map(|more| &more.variable);
        let env: Vec<String> = preset.env.iter().chain(more).map(|v| format!("`{v}`")).collect();
        let (hosts, env) = (hosts.join(", "), env.join(", "));
        writeln!(out, "| `{}` | {} | {env} | {hosts} |", preset.name, preset.description).unwrap();
    }
    out.push_str(TOLD);
    for preset in presets::all() {
        let with = preset.with.iter().map(|(name, about)| format!("`{name}`: {about}"));
        let defaults = preset
            .defaults
            .iter()
            .map(|(name, value)| format!("`{name}`, else `{value}`"));
        let told: Vec<String> = with.chain(defaults).collect();
        if !told.is_empty() {
            writeln!(out, "| `{}` | {} |", preset.name, told.join("; ")).unwrap();
        }
    }
    out
}

fn section(out: &mut String, heading: &str, part: &Json) {
    let about = part["description"].as_str().unwrap_or_default();
    write!(
        out,
        "\n## {heading}\n\n{about}\n\n| key | form | meaning |\n|---|---|---|\n"
    )
    .unwrap();
    let required = part["required"].as_array().cloned().unwrap_or_default();
    for (key, value) in part["properties"].as_object().unwrap() {
        let must = if required.iter().any(|r| r == key) {
            " (required)"
        } else {
            ""
        };
        let meaning = value["description"]
            .as_str()
            .unwrap_or_default()
            .replace('|', "\\|")
            .replace('\n', " ");
        writeln!(out, "| `{key}`{must} | {} | {meaning} |", form(value)).unwrap();
    }
}

/// What may be written, in a word or two.
fn form(value: &Json) -> String {
    if let Some(choices) = value["anyOf"].as_array() {
        let mut words: Vec<String> = choices.iter().map(form).collect();
        words.dedup();
        return words.join(" or ");
    }
    if let Some(words) = value["enum"].as_array() {
        let few = words.len() < 5;
        let words: Vec<String> = words
            .iter()
            .filter_map(Json::as_str)
            .map(|w| format!("`{w}`"))
            .collect();
        return if few { words.join(" or ") } else { "name".to_owned() };
    }
    match (&value["type"], value["pattern"].as_str()) {
        (Json::Array(_), Some(_)) => "size".to_owned(),
        (Json::Array(_), None) => "text or true".to_owned(),
        (_, Some(_)) => "time".to_owned(),
        (Json::String(kind), None) => match kind.as_str() {
            "string" => "text".to_owned(),
            "array" => format!("list of {}", plural(&form(&value["items"]))),
            "boolean" => "true or false".to_owned(),
            "integer" => "number".to_owned(),
            _ => "map".to_owned(),
        },
        _ => "map".to_owned(),
    }
}

fn plural(word: &str) -> String {
    match word.split_once(" or ") {
        Some((a, b)) => format!("{} or {}", plural(a), plural(b)),
        None => format!("{word}s"),
    }
}

const INTRODUCTION: &str = "\
# Configuration reference

One YAML file, `keyferry.yaml`: the one that `--config` names, else the one in the working
directory, else `~/.config/keyferry/keyferry.yaml`. `config/keyferry.yaml` shows every key with
comments. A config with one mistake does not load; `keyferry check` prints all of them.

Times are written `500ms`, `30s`, `10m`, `24h`, `7d`; sizes `4096`, `64KiB`, `32MiB`, `10MB`. A
relative path starts from the directory the config is in; `~/` is your home. No credential is ever
written here: `secrets` says where each lives, and what looks like one is refused.
";

const PRESETS: &str = "
## Presets

`- preset: NAME` in `rules` stands for the rules below. The credential is your secret of the same
name, or the one that `secret:` names, or else comes from the first variable. `keyferry run` without
a config uses every preset of whose variables one is set; where two share a host, the first wins. `aws` has
three: `aws` for the secret access key, `aws-access-key-id`, and, where you have a secret of that name or
the variable is set, `aws-session-token`.

| preset | service | variables | hosts |
|---|---|---|---|
";

const TOLD: &str = "
Some have to be told what is no secret, as in `{ preset: spotify, with: { client_id: … } }`, and are not used without a config:

| preset | with |
|---|---|
";
