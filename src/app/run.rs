//! One command, with a proxy of its own: sockets, trust, stand-ins and environment; then its exit.

use super::machine;
use super::seed;
use super::serve::{App, Options, Started};
use super::surround::{self, Surrounded, Wall};
use crate::audit::Totals;
use crate::base::secret::{IsToken, Secret};
use crate::ca::bundle::Bundle;
use crate::config::Config;
use crate::config::model::Mount;
use crate::launch::child::Signals;
use crate::launch::{self, Exit, Given, Tether, Withheld, wall};
use crate::listen::Inherited;
use crate::listen::bound::Local;
use anyhow::{Result, bail};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A command to run and how.
#[derive(Debug)]
pub struct Command {
    /// Program and arguments.
    pub words: Vec<OsString>,
    /// Variables of the caller's.
    pub environment: Vec<(OsString, OsString)>,
    /// Variables that look like credentials but stay.
    pub keep: Vec<String>,
    /// Hosts it may reach past the proxy.
    pub no_proxy: Vec<String>,
    /// Keyferry's own directory.
    pub data_dir: PathBuf,
    /// Whether it gets base URLs too.
    pub gateway: bool,
    /// Whose rules it gets; needed where the configuration has several agents.
    pub agent: Option<String>,
    /// What stands around it, if anything does.
    pub wall: Option<Wall>,
}

/// How it went.
#[derive(Debug)]
pub struct Report {
    /// The command's own exit.
    pub exit: Exit,
    /// What went through the proxy.
    pub totals: Totals,
}

/// What a command is about to get, for whoever starts it to see.
#[derive(Debug)]
pub struct Prepared {
    /// The running proxy.
    pub app: App,
    /// Where the command finds it.
    pub address: String,
    /// Variables and the stand-ins in them.
    pub placeholders: Vec<(String, String)>,
    /// The command in its surroundings.
    pub around: Surrounded,
    data_dir: PathBuf,
    _dir: tempfile::TempDir,
}

/// Builds the proxy and all that the command needs to go through it, and begins to serve.
///
/// # Errors
/// Whatever is wrong, in words for the operator.
pub async fn prepare(mut config: Config, command: Command) -> Result<Prepared> {
    let named = agent(&config, command.agent.as_deref())?;
    let looking = command
        .wall
        .as_ref()
        .map(|wall| wall.look(&command.environment, &command.data_dir));
    let dir = surround::directory()?;
    config.listen = surround::listeners(command.wall.as_ref(), command.gateway, dir.path())?;
    // The operator's listener is that of `serve`.
    config.admin = None;
    let token = seed::random_hex()?;
    let secret = Secret::new(token.clone().into_bytes())?;
    let is_token = IsToken::new(move |offered| secret.matches(offered));
    let options = Options {
        data_dir: command.data_dir.clone(),
        seed: seed::fresh()?,
        own: Some(Started {
            agent: named,
            token: is_token,
            uid: command.wall.as_ref().map(|wall| wall.user().uid),
        }),
        inherited: Inherited::default(),
    };
    let app = App::build(config, options).await?;
    let address = match app.locals().first() {
        Some((Local::Tcp(address), _)) => address.to_string(),
        Some((Local::Unix(_) | Local::Vsock(_), _)) => wall::ADDRESS.to_owned(),
        None => bail!("the proxy has no address"),
    };
    let own_roots = variable(&command.environment, "SSL_CERT_FILE");
    let bundle = Bundle::write(dir.path(), &app.authority, own_roots.as_deref().map(Path::new))?;
    let placeholders = placeholders(&app);
    let given = Given {
        proxy: launch::Proxy::parse(&format!("http://agent:{token}@{address}"))?,
        dir: dir.path().join("agent"),
        ca_pem: bundle.ca_pem().to_owned(),
        bundle_pem: bundle.bundle_pem().to_owned(),
        truststore_p12: bundle.truststore_p12().to_owned(),
        placeholders: placeholders.clone(),
        withheld: sources(&app),
        keep: command.keep,
        no_proxy: command.no_proxy,
        git_over_https: Vec::new(),
    };
    let wall = command.wall.map(|wall| (wall, looking.flatten()));
    let around = Surrounded::build(wall, command.words, command.environment, &given, base_urls(&app))?;
    app.start().await?;
    Ok(Prepared {
        app,
        address,
        placeholders,
        around,
        data_dir: command.data_dir,
        _dir: dir,
    })
}

impl Prepared {
    /// What the caller has and the command does not get.
    pub fn withheld(&self) -> &[Withheld] {
        &self.around.environment.withheld
    }

    /// Runs the command to its end, then lets the proxy finish.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub async fn run(mut self) -> Result<Report, launch::Error> {
        let tether = Tether::own_program().entering(self.around.groups());
        self.around.sweep();
        let appending = self.around.appending();
        let exit = match self.around.machine() {
            Some(machine) => machine::run(machine, &self.data_dir.join("no-kvm")).await,
            None => {
                let signals = self.around.lifeline().map_or(Signals::Own, Signals::Said);
                launch::child::run(&self.around.words, self.around.vars(), &tether, signals).await
            }
        };
        drop(appending);
        self.around.clear(exit.as_ref().ok().copied());
        self.app.finish().await;
        Ok(Report {
            exit: exit?,
            totals: self.app.proxy.log.totals(),
        })
    }
}

/// The agent that the command is: the one named, or the only one there is.
fn agent(config: &Config, wanted: Option<&str>) -> Result<Arc<str>> {
    let names = || config.agents.iter().map(|a| &*a.name).collect::<Vec<_>>().join(", ");
    match (wanted, config.agents.as_slice()) {
        (None, [only]) => Ok(Arc::clone(&only.name)),
        (None, _) => bail!(
            "the config has several agents: say which this command is with `--agent` ({})",
            names()
        ),
        (Some(wanted), agents) => match agents.iter().find(|agent| &*agent.name == wanted) {
            Some(agent) => Ok(Arc::clone(&agent.name)),
            None => bail!("no agent is named `{wanted}`; the config has: {}", names()),
        },
    }
}

/// Each variable that an agent finds a credential in, with the stand-in it gets.
pub(super) fn placeholders(app: &App) -> Vec<(String, String)> {
    let live = app.proxy.live();
    let specs = live
        .config
        .secrets
        .iter()
        .zip(0..)
        .map(|(spec, at)| (spec, crate::base::ids::SecretId(at)));
    let pairs = specs.filter_map(|(spec, id)| Some((spec, live.stand_ins.of(id)?.to_string())));
    pairs
        .flat_map(|(spec, text)| spec.agent_env.iter().map(move |name| (name.clone(), text.clone())))
        .collect()
}

/// Each variable that a client finds a base URL in, and the one it gets. They come last, so they stand.
fn base_urls(app: &App) -> Vec<(OsString, OsString)> {
    let gateway = app.locals().iter().find(|(_, spoken)| *spoken == "gateway");
    let address = match gateway {
        Some((Local::Tcp(address), _)) => address.to_string(),
        Some((Local::Unix(_) | Local::Vsock(_), _)) => wall::GATEWAY.to_owned(),
        None => return Vec::new(),
    };
    base_urls_at(app, &address)
}

/// The same, for a gateway at that address.
pub(super) fn base_urls_at(app: &App, address: &str) -> Vec<(OsString, OsString)> {
    let live = app.proxy.live();
    let mounts = live.config.rules.iter().filter_map(|rule| rule.mount.as_ref());
    let pairs = mounts.flat_map(|mount| mount.variables.iter().map(move |(name, path)| (mount, name, path)));
    let url = |(mount, name, path): (&Mount, &String, &String)| {
        (name.into(), format!("http://{address}{}{path}", mount.prefix).into())
    };
    pairs.map(url).collect()
}

/// The variables that secrets are read from: the command must not have them.
pub(super) fn sources(app: &App) -> Vec<String> {
    let live = app.proxy.live();
    let variables = live.config.secrets.iter().flat_map(|spec| spec.source.variables());
    variables.map(str::to_owned).collect()
}

pub(super) fn variable(environment: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    let found = environment.iter().find(|(key, _)| key == OsStr::new(name));
    found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
}
