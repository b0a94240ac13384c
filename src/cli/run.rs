//! `keyferry run -- COMMAND`: one command behind a proxy of its own.

use super::settings::{self, Failed};
use crate::app::run::{Command, Report, prepare};
use crate::app::surround::Wall;
use crate::audit::Totals;
use crate::base::glob::HostPattern;
use crate::config::model::{Action, Rule, RuleLimits, Strays};
use crate::config::parent::Via;
use crate::config::{Config, presets};
use crate::launch::wall::bounds::Most;
use crate::launch::wall::engine::Engine;
use crate::launch::wall::{self, Kind, Shared};
use anyhow::Result;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `run` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a config, rules come from the presets whose variables are set; whatever else is denied.
The exit code is the command's own, or 125: nothing was started, 126: it cannot be executed, 127: there is none.")]
pub struct RunArgs {
    /// Let the command reach this host, without a credential (repeatable; `*.example.com` works)
    #[arg(long, value_name = "HOST")]
    allow: Vec<String>,
    /// Which agent of the config the command is
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Leave a variable that looks like a credential in the command's environment (repeatable)
    #[arg(long, value_name = "NAME")]
    keep_env: Vec<String>,
    /// A host that the command may reach past the proxy, besides loopback (repeatable)
    #[arg(long, value_name = "HOST")]
    no_proxy: Vec<String>,
    /// Hand the command base URLs too (ANTHROPIC_BASE_URL and the like), for programs that use no proxy
    #[arg(long)]
    gateway: bool,
    /// What to put around the command: `bwrap` (bubblewrap), `docker`, `gvisor`, `none`, or `auto`, the strongest that this
    /// machine has at no great cost
    #[arg(long, value_name = "WALL", default_value = "none")]
    sandbox: Sandbox,
    /// In a container: the image to start, with its own entrypoint; without it, the machine's own programs are shown
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Behind a wall: where the command begins, and may write unless `:ro` follows; without it, the current directory
    #[arg(long, value_name = "DIR[:ro|:rw]")]
    workdir: Option<OsString>,
    /// Behind a wall: another file or directory to show, read-only unless `:rw` follows (repeatable)
    #[arg(long, value_name = "PATH[:ro|:rw]")]
    mount: Vec<OsString>,
    /// Behind a wall: show this, although it looks like a credential (repeatable)
    #[arg(long, value_name = "PATH")]
    unmask: Vec<PathBuf>,
    /// Behind a wall: the most memory the command may use, in MiB; without it, half of the machine's
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// In a container: the most processors' time the command may use; without it, all of the machine's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    cpus: Option<u16>,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
    /// The command; an image may have one of its own
    #[arg(last = true, required_unless_present = "image", value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The walls that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sandbox {
    Auto,
    Bwrap,
    Docker,
    Gvisor,
    None,
}

/// Runs the command and passes its exit code on.
///
/// # Errors
/// When the config has mistakes, or the command cannot be started.
pub fn run(args: RunArgs, explicit: Option<&Path>) -> Result<ExitCode> {
    settings::log("warn");
    let allowed = allowed(&args.allow)?;
    let config = match settings::find_config(explicit)? {
        Some((mut config, _)) => {
            // After the config's own rules: `--allow` adds, it does not overrule a denial.
            config.rules.extend((!allowed.is_empty()).then(|| allow_rule(allowed)));
            config
        }
        None => from_environment(&allowed)?,
    };
    let quiet = args.quiet;
    let wall = wall(&args)?;
    let command = Command {
        wall,
        words: args.command,
        environment: std::env::vars_os().collect(),
        keep: args.keep_env,
        no_proxy: args.no_proxy,
        data_dir: settings::data_dir()?,
        agent: args.agent,
        gateway: args.gateway,
    };
    settings::block_on(async move {
        let prepared = prepare(config, command).await.map_err(unstartable)?;
        if !quiet {
            introduce(&prepared);
        }
        let report = prepared.run().await.map_err(Failed::Start)?;
        if !quiet {
            settings::say(&summary(&report.totals));
        }
        Ok(code(&report))
    })
}

/// The wall that was asked for, and what it shows.
fn wall(args: &RunArgs) -> Result<Option<Wall>, Failed> {
    let Some(kind) = kind(args.sandbox, args.image.is_some()) else {
        let shows = args.workdir.is_some() || !args.mount.is_empty() || !args.unmask.is_empty();
        let bounds = args.memory.is_some() || args.cpus.is_some();
        if args.sandbox == Sandbox::None && (shows || bounds || args.image.is_some()) {
            let told = "`--workdir`, `--mount`, `--unmask`, `--image`, `--memory` and `--cpus` are about a wall; ask for one \
                        with `--sandbox auto`";
            return Err(Failed::Usage(told.to_owned()));
        }
        return Ok(None);
    };
    if !matches!(kind, Kind::Container(_)) && (args.image.is_some() || args.cpus.is_some()) {
        let told = "`--image` and `--cpus` are about a container; ask for one with `--sandbox docker`, or \
                    with gVisor for an image";
        return Err(Failed::Usage(told.to_owned()));
    }
    let here = OsString::from(".");
    let most = Most::default();
    Ok(Some(Wall {
        kind,
        image: args.image.clone(),
        most: Most {
            memory: args.memory.map_or(most.memory, |mib| mib.saturating_mul(1024 * 1024)),
            cpus: args.cpus.map_or(most.cpus, usize::from),
            ..most
        },
        workdir: Shared::parse(args.workdir.as_deref().unwrap_or(&here), true)?,
        mounts: args
            .mount
            .iter()
            .map(|text| Shared::parse(text, false))
            .collect::<Result<_, _>>()?,
        unmask: args.unmask.iter().filter_map(|path| path.canonicalize().ok()).collect(),
    }))
}

/// What builds the wall that was asked for.
fn kind(wanted: Sandbox, imaged: bool) -> Option<Kind> {
    match wanted {
        Sandbox::None => None,
        Sandbox::Bwrap => Some(Kind::Bwrap),
        Sandbox::Docker => Some(Kind::Container(Engine::Docker)),
        // An image is an engine's; without one, none is needed.
        Sandbox::Gvisor if imaged => Some(Kind::Container(Engine::DockerGvisor)),
        Sandbox::Gvisor => Some(Kind::Gvisor),
        Sandbox::Auto => {
            let there = wall::bwrap::find().is_some();
            if !there {
                settings::say("keyferry: no wall: bubblewrap is not installed");
            }
            there.then_some(Kind::Bwrap)
        }
    }
}

/// Nothing was started: 125, whatever the cause.
fn unstartable(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<crate::launch::Error>() {
        Ok(launch) => Failed::Start(launch).into(),
        Err(error) => Failed::NotStarted(format!("{error:#}")).into(),
    }
}

fn allowed(hosts: &[String]) -> Result<Vec<HostPattern>> {
    let read = |host: &String| {
        HostPattern::parse(host)
            .map_err(|e| Failed::Usage(format!("`--allow {host}`: {e}; give a host, such as example.com")))
    };
    Ok(hosts.iter().map(read).collect::<Result<_, _>>()?)
}

fn allow_rule(hosts: Vec<HostPattern>) -> Rule {
    let action = Action::Intercept {
        inject: Vec::new(),
        plaintext: false,
        strays: Strays::Block,
    };
    Rule {
        name: "--allow".into(),
        hosts,
        agents: None,
        allow: None,
        action,
        via: Via::Default,
        limits: RuleLimits::default(),
        mount: None,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "which presets apply is read from the caller's environment"
)]
fn from_environment(allowed: &[HostPattern]) -> Result<Config> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let chosen = presets::for_environment(is_set);
    Ok(Config::from_presets(&chosen, allowed).map_err(|m| Failed::Config(m.render(settings::colour())))?)
}

fn introduce(prepared: &crate::app::run::Prepared) {
    let live = prepared.app.proxy.live();
    let names: Vec<&str> = live.config.rules.iter().map(|rule| &*rule.name).collect();
    let rules = if names.is_empty() {
        "none: everything is denied".to_owned()
    } else {
        names.join(", ")
    };
    settings::say(&format!("keyferry: rules: {rules}"));
    for (name, _) in &prepared.placeholders {
        settings::say(&format!("keyferry: {name} holds a placeholder"));
    }
    if let Some(wall) = prepared.around.wall() {
        settings::say(&format!("keyferry: wall: {wall}"));
    }
    if let Some(dir) = prepared.around.unwritable() {
        settings::say(&format!(
            "keyferry: the command may not write to {}: it is root's, and in a container nobody is; `chown 1000:1000` it, or \
             start Keyferry as an ordinary user",
            dir.display()
        ));
    }
    if prepared.around.unbounded() {
        settings::say(
            "keyferry: the command's memory and processes are not bounded: no control group can be made here",
        );
    }
    for masked in &prepared.around.masked {
        settings::say(&format!("keyferry: masked {} ({})", masked.path.display(), masked.why));
    }
    let withheld = prepared
        .withheld()
        .iter()
        .map(|withheld| withheld.name.to_string_lossy());
    let withheld: Vec<_> = withheld
        .filter(|name| !prepared.placeholders.iter().any(|(held, _)| held == name))
        .collect();
    if !withheld.is_empty() {
        let names = withheld.join(", ");
        settings::say(&format!(
            "keyferry: kept from the command: {names} (`--keep-env NAME` leaves one in)"
        ));
    }
}

/// The closing line: how many requests went, how many were denied, and why the first was.
fn summary(totals: &Totals) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let mut text = format!("keyferry: {} request{} went", totals.allowed, plural(totals.allowed));
    if totals.failed > 0 {
        text.push_str(&format!(", {} failed", totals.failed));
    }
    text.push_str(&format!(", {} denied", totals.denied));
    if let Some(first) = &totals.first_denial {
        let host = first.host.as_ref().map(ToString::to_string).unwrap_or_default();
        let reason = first.reason.as_deref().unwrap_or(first.code);
        text.push_str(&format!("; the first to {host}: {reason}"));
    }
    text
}

fn code(report: &Report) -> ExitCode {
    ExitCode::from(report.exit.0)
}
