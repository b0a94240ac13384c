//! `keyferry explain METHOD URL`: which rule decides, what is injected, why not.

use super::settings::{self, Failed};
use crate::base::ask::{Ask, Scheme, normal_path};
use crate::base::host::Target;
use crate::base::ids::{AgentId, SecretId};
use crate::config::Config;
use crate::config::mint::How;
use crate::config::model::{Action, Inject, Place, Rule, SecretSpec, Source};
use crate::policy::{Denied, Policy};
use anyhow::Result;
use http::{Method, Uri};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// What `explain` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exits 0 if the request would be allowed, 1 if not.")]
pub struct ExplainArgs {
    /// The method, such as GET
    method: String,
    /// The URL, such as `https://api.example.com/v1/things`
    url: String,
    /// Which agent asks; without it the only one, or the first
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Explains; exits 0 when the request would be allowed and 1 when not.
///
/// # Errors
/// When the config has mistakes, or method, URL or agent make no sense.
pub fn run(args: &ExplainArgs, explicit: Option<&Path>) -> Result<ExitCode> {
    let (config, path) = settings::need_config(explicit)?;
    let ask = read_ask(&args.method, &args.url)?;
    let agent = find_agent(&config, args.agent.as_deref())?;
    let judged = Policy::new(&config).explain(agent, &ask).map(|(_, rule)| rule.clone());
    let told = explain(&config, &ask, judged.as_ref());
    let mut out = std::io::stdout().lock();
    if args.json {
        let agent = config.agent(agent).map(|a| a.name.to_string());
        writeln!(out, "{}", told.json(&config, agent, &path))?;
    } else {
        writeln!(out, "{}", told.text())?;
    }
    Ok(if told.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Told {
    allowed: bool,
    verdict: &'static str,
    rule: Option<String>,
    why: String,
    inject: Vec<String>,
    /// The parent proxy.
    through: Option<String>,
}

fn explain(config: &Config, ask: &Ask, judged: Result<&Rule, &Denied>) -> Told {
    let told = |allowed, verdict, rule: Option<&Rule>, why: String| Told {
        allowed,
        verdict,
        rule: rule.map(|r| r.name.to_string()),
        why,
        inject: Vec::new(),
        through: rule
            .filter(|_| allowed)
            .and_then(|rule| config.parent(&rule.via, &ask.target))
            .map(ToString::to_string),
    };
    let rule = match judged {
        Err(denied) => {
            let allowed = match denied {
                Denied::Request { allowed, .. } => format!("; it allows: {}", allowed.join(", ")),
                _ => String::new(),
            };
            let mut told = told(false, "denied", None, format!("{denied}{allowed}"));
            told.rule = denied.rule().map(ToString::to_string);
            return told;
        }
        Ok(rule) => rule,
    };
    match &rule.action {
        Action::Deny { reason } => {
            let why = reason.clone().unwrap_or_else(|| "the rule denies it".to_owned());
            told(false, "denied", Some(rule), why)
        }
        Action::Tunnel => told(
            true,
            "tunnel",
            Some(rule),
            "bytes pass unread; nothing is injected".to_owned(),
        ),
        Action::Intercept { inject, plaintext, .. }
            if ask.scheme == Scheme::Http && !inject.is_empty() && !plaintext =>
        {
            let why = "the rule has a credential, and plain HTTP would show it on the way; use https".to_owned();
            told(false, "denied", Some(rule), why)
        }
        Action::Intercept { inject, .. } => {
            let kept = rule.capture().map(|capture| {
                format!(
                    "the tokens of login `{}` in its replies are kept from the agent",
                    capture.login
                )
            });
            let mut told = told(true, "allowed", Some(rule), kept.unwrap_or_default());
            told.inject = inject.iter().map(|one| describe(config, one)).collect();
            told
        }
    }
}

impl Told {
    fn text(&self) -> String {
        let mut text = match &self.rule {
            Some(rule) => format!("{} by rule `{rule}`", self.verdict),
            None => self.verdict.to_owned(),
        };
        if !self.why.is_empty() {
            text.push_str(&format!(": {}", self.why));
        }
        if self.allowed && self.inject.is_empty() && self.verdict == "allowed" {
            text.push_str("; nothing is injected");
        }
        for line in &self.inject {
            text.push_str(&format!("\n  injects {line}"));
        }
        if let Some(parent) = &self.through {
            text.push_str(&format!("\n  through {parent}"));
        }
        text
    }

    fn json(&self, config: &Config, agent: Option<String>, path: &Path) -> Value {
        json!({
            "verdict": self.verdict,
            "allowed": self.allowed,
            "rule": self.rule,
            "why": self.why,
            "inject": self.inject,
            "through": self.through,
            "agent": agent,
            "config": path,
            "rules": config.rules.len(),
        })
    }
}

fn describe(config: &Config, inject: &Inject) -> String {
    let name = |id| {
        config
            .secret(id)
            .map_or_else(|| "?".to_owned(), |s: &SecretSpec| s.name.to_string())
    };
    let names = |ids: Vec<_>| ids.into_iter().map(name).collect::<Vec<_>>().join(", ");
    match inject {
        Inject::Bearer(id) => format!("`{}` as `Authorization: Bearer`{}", name(*id), made(config, *id)),
        Inject::Basic { user, password } => format!(
            "`{}` as the password of `{user}` in `Authorization: Basic`{}",
            name(*password),
            made(config, *password)
        ),
        Inject::Header { name: header, value } => match value.secrets().collect::<Vec<_>>() {
            none if none.is_empty() => format!("header `{header}`, without a credential"),
            ids => format!("`{}` in header `{header}`", names(ids)),
        },
        Inject::Query { name: query, value } => {
            format!("`{}` in query parameter `{query}`", names(value.secrets().collect()))
        }
        Inject::Cookie { name: cookie, value } => {
            format!("`{}` as cookie `{cookie}`", names(value.secrets().collect()))
        }
        Inject::Hmac(spec) => {
            let headers: Vec<String> = spec.headers.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!("a signature by the key `{}`, in {}", name(spec.key), headers.join(", "))
        }
        Inject::SigV4(keys) => format!("a signature of `{}` as AWS has it", name(keys.access_key_id)),
        Inject::Program(program) => format!(
            "the headers that `{}` answers with",
            program.argv.first().map_or("?", String::as_str)
        ),
        Inject::Mtls(shown) => format!(
            "the client certificate `{}`, shown in the TLS handshake",
            name(shown.certificate)
        ),
        Inject::Login { login, places } => {
            let places: Vec<String> = places.iter().map(place).collect();
            format!(
                "the tokens of login `{login}` where their placeholders stand, in {}",
                places.join(", ")
            )
        }
        Inject::Placeholder { secret, places } => {
            let places: Vec<String> = places.iter().map(place).collect();
            format!(
                "`{}` where its placeholder stands, in {}",
                name(*secret),
                places.join(", ")
            )
        }
    }
}

/// Where a token comes from, if it is one.
fn made(config: &Config, id: SecretId) -> String {
    match config.secret(id).map(|spec| &spec.source) {
        Some(Source::Minted(mint)) => match &mint.how {
            How::Signed(_) => "; it is signed here".to_owned(),
            how => format!("; {} is asked for it", how.asked()),
        },
        _ => String::new(),
    }
}

fn place(place: &Place) -> String {
    match place {
        Place::Header(name) => format!("header `{name}`"),
        Place::Query(name) => format!("query parameter `{name}`"),
        Place::Path => "the path".to_owned(),
        Place::Body(pointer) => format!("the body at `{pointer}`"),
        Place::WebSocket => "WebSocket messages".to_owned(),
    }
}

fn read_ask(method: &str, url: &str) -> Result<Ask> {
    let usage = |text: String| Failed::Usage(text);
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| usage(format!("`{method}` is no method")))?;
    let with_scheme = if url.contains("://") {
        url.to_owned()
    } else {
        format!("https://{url}")
    };
    let uri: Uri = with_scheme
        .parse()
        .map_err(|e| usage(format!("`{url}` is no URL: {e}")))?;
    let scheme = match uri.scheme_str() {
        Some("http" | "ws") => Scheme::Http,
        Some("https" | "wss") => Scheme::Https,
        _ => return Err(usage(format!("`{url}` is neither http nor https")).into()),
    };
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let target = Target::parse(authority, Some(scheme.default_port())).map_err(|e| usage(format!("`{url}`: {e}")))?;
    Ok(Ask {
        overrides: Vec::new(),
        target,
        scheme,
        method,
        path: normal_path(uri.path()),
    })
}

fn find_agent(config: &Config, wanted: Option<&str>) -> Result<AgentId> {
    let Some(wanted) = wanted else { return Ok(AgentId(0)) };
    let at = config.agents.iter().position(|agent| &*agent.name == wanted);
    let at = at.and_then(|at| u32::try_from(at).ok());
    let names = || config.agents.iter().map(|a| &*a.name).collect::<Vec<_>>().join(", ");
    Ok(AgentId(at.ok_or_else(|| {
        Failed::Usage(format!("no agent is named `{wanted}`; the config has: {}", names()))
    })?))
}
