//! A wall as a text, for a command that some `keyferry serve` is the proxy of.

use super::run::{base_urls_at, placeholders, sources, variable};
use super::seed;
use super::serve::{App, Options, loopback};
use super::surround::{self, Place, Wall};
use crate::ca::bundle::Bundle;
use crate::config::Config;
use crate::config::model::{AuditSink, Bind, CaSource, Speak};
use crate::launch::wall::engine::Caller;
use crate::launch::wall::{self, Kind, Masked, Shared, Ways, oci, printed};
use crate::launch::{self, Environment, Given, Withheld};
use crate::listen::Inherited;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What it is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The command line, as a shell reads it.
    Command,
    /// A file for Docker Compose.
    Compose,
    /// `config.json` of the Open Container Initiative.
    Oci,
}

/// What is to be printed.
#[derive(Debug)]
pub struct Request {
    /// The wall.
    pub wall: Wall,
    /// The command.
    pub words: Vec<OsString>,
    /// Variables of the caller's.
    pub environment: Vec<(OsString, OsString)>,
    /// Variables that look like credentials but stay.
    pub keep: Vec<String>,
    /// Keyferry's own directory.
    pub data_dir: PathBuf,
    /// Where the files go that the text refers to.
    pub out: PathBuf,
    /// How it is written.
    pub format: Format,
}

/// The text, and what is to be said beside it.
#[derive(Debug)]
pub struct Printed {
    /// For standard output.
    pub text: String,
    /// The proxy's socket or port that the command will go through.
    pub through: String,
    /// What is covered of what the command is shown.
    pub masked: Vec<Masked>,
    /// What is kept from it.
    pub withheld: Vec<Withheld>,
    /// Variables and the stand-ins in them.
    pub placeholders: Vec<(String, String)>,
}

/// Writes the files, and the text that refers to them.
///
/// # Errors
/// When the config has no listener on a unix socket, or a CA that nobody else has; and as for `run`.
pub async fn print(mut config: Config, mut request: Request) -> Result<Printed> {
    if config.ca == CaSource::Memory {
        bail!("the config's CA is in the memory of each Keyferry alone; give it a directory (`ca: {{ dir: … }}`)");
    }
    let kind = request.wall.kind;
    let Doors {
        through,
        socket_dir,
        ways,
    } = if kind == Kind::Seatbelt {
        ports(&config)?
    } else {
        sockets(&config)?
    };
    // Nothing is served here: what is wanted is the CA, and the stand-ins that `serve` will know again.
    config.listen = vec![loopback(Speak::Proxy)];
    config.admin = None;
    config.audit.sink = AuditSink::None;
    let options = Options {
        seed: seed::kept(&request.data_dir)?,
        data_dir: request.data_dir.clone(),
        own: None,
        inherited: Inherited::default(),
    };
    let looking = request.wall.look(&request.environment, &request.data_dir);
    let app = App::build(config, options).await?;
    let out = std::path::absolute(&request.out)?;
    std::fs::create_dir_all(&out)
        .and_then(|()| std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o711)))
        .with_context(|| format!("cannot make {}", out.display()))?;
    let given = given(&app, &request, &out, inside(&ways, 0))?;
    let environment = environment(&mut request, &app, &given, &ways, &out)?;
    let place = Place {
        dir: given.dir.clone(),
        socket_dir,
        ways,
        mark: None,
    };
    let plan = surround::plan(request.wall, looking, request.words, environment.vars, place)?;
    let text = text(request.format, kind, &plan, &request.environment)?;
    Ok(Printed {
        text,
        through,
        masked: plan.masked,
        withheld: environment.withheld,
        placeholders: given.placeholders,
    })
}

/// What the command is to be given: the CA, written for it, and stand-ins.
fn given(app: &App, request: &Request, out: &Path, proxy: &str) -> Result<Given> {
    let own_roots = variable(&request.environment, "SSL_CERT_FILE");
    let bundle = Bundle::write(out, &app.authority, own_roots.as_deref().map(Path::new))?;
    Ok(Given {
        proxy: launch::Proxy::parse(&format!("http://{proxy}"))?,
        dir: out.join("agent"),
        ca_pem: bundle.ca_pem().to_owned(),
        bundle_pem: bundle.bundle_pem().to_owned(),
        truststore_p12: bundle.truststore_p12().to_owned(),
        placeholders: placeholders(app),
        withheld: sources(app),
        keep: request.keep.clone(),
        no_proxy: Vec::new(),
        git_over_https: Vec::new(),
    })
}

fn environment(request: &mut Request, app: &App, given: &Given, ways: &Ways, out: &Path) -> Result<Environment> {
    let base_urls = if ways.len() > 1 {
        base_urls_at(app, inside(ways, 1))
    } else {
        Vec::new()
    };
    let mut environment = surround::behind(&request.wall, &request.environment, given, base_urls)?;
    if request.wall.kind == Kind::Seatbelt {
        // Nothing can be laid over the user's own.
        for (variable, name) in [("HOME", "home"), ("TMPDIR", "tmp")] {
            let room = room(&out.join(name))?;
            environment.vars.retain(|(known, _)| known != variable);
            environment.vars.push((variable.into(), room.path.clone().into()));
            request.wall.mounts.push(room);
        }
    }
    Ok(environment)
}

/// How a command reaches the proxy.
struct Doors {
    /// The first of them, in words.
    through: String,
    /// The directory with the sockets.
    socket_dir: PathBuf,
    /// Addresses inside: the proxy's, and that of base URLs, if there is one.
    ways: Ways,
}

/// By sockets, behind a bridge.
fn sockets(config: &Config) -> Result<Doors> {
    let socket = socket(config, |speak| *speak == Speak::Proxy).context(
        "no listener of the config is on a unix socket, which alone reaches behind a wall; add \
         `{ bind: \"unix:/run/keyferry/proxy.sock\", mode: \"0660\" }` to `listen`",
    )?;
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        bail!("{} is no socket in a directory", socket.display());
    };
    let mut ways = vec![(wall::ADDRESS.to_owned(), name.to_owned())];
    let gateway = self::socket(config, |speak| matches!(speak, Speak::Gateway { .. }));
    // One directory is shown.
    let beside = gateway.filter(|gateway| gateway.parent() == Some(dir));
    ways.extend(beside.and_then(|socket| Some((wall::GATEWAY.to_owned(), socket.file_name()?.to_owned()))));
    Ok(Doors {
        through: socket.display().to_string(),
        socket_dir: std::path::absolute(dir)?,
        ways,
    })
}

/// By ports of loopback, where no namespace could be in between.
fn ports(config: &Config) -> Result<Doors> {
    let port = |spoken: fn(&Speak) -> bool| {
        config.listen.iter().find_map(|listen| match listen.bind {
            Bind::Tcp(at) if spoken(&listen.speak) && !listen.tls => Some(format!("127.0.0.1:{}", at.port())),
            _ => None,
        })
    };
    let proxy = port(|speak| *speak == Speak::Proxy).context(
        "no listener of the config is on a TCP port, which alone is reached from a Mac's sandbox; add \
         `127.0.0.1:8080` to `listen`",
    )?;
    let gateway = port(|speak| matches!(speak, Speak::Gateway { .. }));
    Ok(Doors {
        through: proxy.clone(),
        socket_dir: PathBuf::new(),
        ways: [proxy]
            .into_iter()
            .chain(gateway)
            .map(|at| (at, OsString::new()))
            .collect(),
    })
}

fn inside(ways: &Ways, which: usize) -> &str {
    ways.get(which).map_or(wall::ADDRESS, |(address, _)| address)
}

/// A directory of the command's own.
fn room(path: &Path) -> Result<Shared> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(Shared::parse(path.as_os_str(), true)?)
}

/// The plan as it was asked for, and the files that it refers to.
fn text(format: Format, kind: Kind, plan: &wall::Plan, caller: &Caller) -> Result<String> {
    Ok(match (format, kind) {
        (Format::Command, _) => printed::shell(kind, plan, caller)?,
        (Format::Compose, Kind::Container(engine)) => printed::compose(engine, plan)?,
        (Format::Oci, Kind::Gvisor) => {
            wall::gvisor::write(plan)?;
            format!("{:#}\n", oci::config(plan))
        }
        (Format::Compose, _) => bail!("a file for Compose is for a container: `--sandbox docker`"),
        (Format::Oci, _) => bail!("a bundle is what gVisor runs: `--sandbox gvisor`, without an image"),
    })
}

/// The first unix socket on which that is spoken.
fn socket(config: &Config, spoken: impl Fn(&Speak) -> bool) -> Option<PathBuf> {
    config.listen.iter().find_map(|listen| match &listen.bind {
        Bind::Unix(path) if spoken(&listen.speak) => Some(path.clone()),
        _ => None,
    })
}
