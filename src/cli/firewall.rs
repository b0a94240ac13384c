//! `keyferry firewall`: rules that send agents that know of no proxy to Keyferry, and let nothing else of theirs out.

use super::settings::{self, Failed};
use crate::config::Config;
use crate::config::model::{Bind, Redirect, Speak};
use crate::firewall::{Backend, Cgroup, Error, Interface, Name, Plan, Tools, User, Who, force};
use anyhow::Result;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

/// What `firewall` takes.
#[derive(Debug, clap::Args)]
pub struct FirewallArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print the rules, as `nft -f` or `iptables-restore --noflush` takes them; changes nothing
    Print(Rules),
    /// Put the rules in force, in place of those of the same name
    Apply(Rules),
    /// Take the rules out again
    Remove(Place),
}

/// Which rules, and where.
#[derive(Debug, clap::Args)]
struct Place {
    /// Keeps several sets of rules apart: at most 12 lower-case letters and digits
    #[arg(long, value_name = "NAME", default_value = Name::ONLY)]
    name: Name,
    /// The network namespace they are for: a name (`ip netns`) or a file (`/proc/PID/ns/net`)
    #[arg(long, value_name = "NAMESPACE")]
    netns: Option<String>,
    /// What they are written for; `auto`: nftables, or iptables where that is all there is
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    backend: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wanted {
    Auto,
    Nft,
    Iptables,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
TCP to the redirected ports leads to the config's transparent listener, and DNS to its resolver. Keyferry's other listeners
can be reached. Everything else is refused, in IPv4 and IPv6. With --netns alone, all traffic of that namespace is meant.")]
struct Rules {
    #[command(flatten)]
    place: Place,
    /// What programs of this user send; may be given several times, as all that follow
    #[arg(long, value_name = "USER", value_parser = User::agent)]
    uid: Vec<User>,
    /// What programs in this control group (v2) and below it send
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<Cgroup>,
    /// What comes in by this interface, on the gateway of an agent's network; `veth*`: by all that begin so
    #[arg(long, value_name = "INTERFACE")]
    interface: Vec<Interface>,
    /// What anybody in this network namespace sends, except who is spared
    #[arg(long, conflicts_with_all = ["uid", "cgroup"])]
    all: bool,
    /// Keyferry's own user, whose traffic passes
    #[arg(long, value_name = "USER")]
    spare_uid: Vec<User>,
    /// The mark of packets that pass
    #[arg(long, value_name = "MARK", value_parser = mark)]
    spare_mark: Option<u32>,
    /// The TCP ports that are redirected
    #[arg(long, value_name = "PORT", default_values_t = [80, 443], value_parser = port())]
    port: Vec<u16>,
    /// The port of the transparent listener, where the config has several or there is none
    #[arg(long, value_name = "PORT", value_parser = port())]
    to: Option<u16>,
    /// The port of the resolver, where the config has several or there is none
    #[arg(long, value_name = "PORT", value_parser = port())]
    dns: Option<u16>,
    /// Leave loopback open between the programs of this network; Keyferry's admin listener and all else there with it
    #[arg(long)]
    loopback: bool,
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

fn mark(text: &str) -> Result<u32, String> {
    let read = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    // Packets are born with mark 0.
    let mark = read.ok().filter(|mark| *mark > 0);
    mark.ok_or_else(|| "a mark is a number from 1 to 0xffffffff".to_owned())
}

/// Prints, applies or removes.
///
/// # Errors
/// When the rules make no sense, or the kernel does not take them.
pub fn run(args: FirewallArgs, explicit: Option<&Path>) -> Result<ExitCode> {
    match args.verb {
        Verb::Print(rules) => {
            let backend = rules.place.backend.or_found();
            print(&rules.plan(explicit)?, backend);
        }
        Verb::Apply(rules) => {
            let plan = rules.plan(explicit)?;
            let backend = rules.place.backend.or_found();
            let tools = rules.place.enter(backend)?;
            tools.apply(&plan)?;
            settings::say(&format!("in force: {}", told(&plan)));
        }
        Verb::Remove(place) => {
            // What `auto` finds now may not be what it found when the rules were made.
            let backends = match place.backend {
                Wanted::Auto => Backend::all_found(),
                one => vec![one.or_found()],
            };
            if backends.is_empty() {
                place.enter(Backend::Nft)?;
            }
            for backend in backends {
                place.enter(backend)?.remove(&place.name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Wanted {
    fn or_found(self) -> Backend {
        match self {
            Self::Auto => Backend::found(),
            Self::Nft => Backend::Nft,
            Self::Iptables => Backend::Iptables,
        }
    }
}

impl Place {
    /// Goes where the rules are for.
    fn enter(&self, backend: Backend) -> Result<Tools, Error> {
        let tools = Tools::new(backend)?;
        if let Some(namespace) = &self.netns {
            force::enter(namespace)?;
        }
        Ok(tools)
    }
}

impl Rules {
    fn plan(&self, explicit: Option<&Path>) -> Result<Plan> {
        let found = settings::find_config(explicit)?;
        let config = found.as_ref().map(|(config, _)| config);
        let named = !self.uid.is_empty() || !self.cgroup.is_empty() || !self.interface.is_empty();
        let transparent = self.transparent(config)?;
        let dns = match (self.dns, config) {
            (Some(port), _) => Some(everywhere(port)),
            (None, Some(config)) => resolver(config)?,
            (None, None) => None,
        };
        let listeners = config.map_or_else(Vec::new, |config| streams(config, transparent));
        let plan = Plan {
            name: self.place.name.clone(),
            who: Who {
                uids: self.uid.clone(),
                cgroups: self.cgroup.clone(),
                interfaces: self.interface.clone(),
                everybody: self.all || (self.place.netns.is_some() && !named),
            },
            spared: self.spare_uid.clone(),
            spared_mark: self.spare_mark,
            ports: self.port.clone(),
            transparent,
            dns,
            listeners,
            loopback: self.loopback,
        };
        plan.check().map_err(|error| Failed::Usage(error.to_string()))?;
        Ok(plan)
    }

    /// The transparent listener: the config's one, or the one that is meant.
    fn transparent(&self, config: Option<&Config>) -> Result<SocketAddr, Failed> {
        let Some(config) = config else {
            let told = "there is no config, so say with `--to PORT` where the transparent listener is";
            return self.to.map(everywhere).ok_or_else(|| Failed::Usage(told.to_owned()));
        };
        let mut fitting = Vec::new();
        let mut others = Vec::new();
        for listen in &config.listen {
            let Bind::Tcp(address) = listen.bind else { continue };
            if self.to.is_some_and(|to| to != address.port()) {
                continue;
            }
            match &listen.speak {
                Speak::Transparent { redirect, .. } => fitting.push((address, *redirect)),
                other => others.push(format!("{address} speaks `{}`", other.as_str())),
            }
        }
        let told = match (fitting.as_slice(), self.to) {
            ([(address, Redirect::Tproxy)], _) => format!(
                "the listener on {address} takes TPROXY, for which routes are needed too (docs/transparent.md); \
                 take its `tproxy` out, for these rules use REDIRECT"
            ),
            ([(address, _)], _) if address.port() == 0 => {
                format!("the listener on {address} has another port at each start: give it one")
            }
            ([(address, Redirect::Nat)], _) => return Ok(*address),
            ([], Some(to)) if others.is_empty() => format!("no listener of the config has port {to}"),
            ([], Some(_)) => format!("{}, and not `transparent`", others.join(", ")),
            ([], None) => {
                "no listener of the config is transparent: add `{ bind: \"[::]:15001\", speak: transparent }` \
                           to `listen`"
                    .to_owned()
            }
            _ => "the config has several transparent listeners: say with `--to PORT` which one is meant".to_owned(),
        };
        Err(Failed::Usage(told))
    }
}

/// The config's resolver, if it has one.
fn resolver(config: &Config) -> Result<Option<SocketAddr>, Failed> {
    let all = config
        .listen
        .iter()
        .filter_map(|listen| match (&listen.speak, &listen.bind) {
            (Speak::Dns { .. }, Bind::Tcp(address)) => Some(*address),
            _ => None,
        });
    match all.collect::<Vec<_>>().as_slice() {
        [] => Ok(None),
        [address] if address.port() != 0 => Ok(Some(*address)),
        [_] => Err(Failed::Usage(
            "the resolver has another port at each start: give it one".to_owned(),
        )),
        _ => {
            let told = "the config has several resolvers: say with `--dns PORT` which one is meant";
            Err(Failed::Usage(told.to_owned()))
        }
    }
}

/// The config's other TCP listeners for agents.
fn streams(config: &Config, transparent: SocketAddr) -> Vec<SocketAddr> {
    let all = config
        .listen
        .iter()
        .filter_map(|listen| match (&listen.speak, &listen.bind) {
            (Speak::Dns { .. }, _) | (_, Bind::Unix(_) | Bind::Vsock(_) | Bind::Passed(_)) => None,
            (_, Bind::Tcp(address)) => Some(*address),
        });
    all.filter(|address| *address != transparent && address.port() != 0)
        .collect()
}

/// A listener of which only the port is known.
fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

#[expect(clippy::print_stdout, reason = "the answer of the verb")]
fn print(plan: &Plan, backend: Backend) {
    match backend {
        Backend::Nft => print!("{}", plan.nft()),
        Backend::Iptables => {
            for part in plan.iptables() {
                print!("# {}-restore --noflush\n{}", part.tool, part.text);
            }
        }
    }
}

fn told(plan: &Plan) -> String {
    let ports: Vec<String> = plan.ports.iter().map(u16::to_string).collect();
    let dns = match plan.dns {
        Some(dns) => format!("DNS leads to port {}", dns.port()),
        None => "DNS is refused".to_owned(),
    };
    let (ports, to) = (ports.join(" and "), plan.transparent.port());
    format!("TCP to {ports} leads to port {to}, {dns}, and all else is refused")
}
