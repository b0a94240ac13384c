//! Puts rules in force, and takes them out: by `nft`, or by `iptables-restore` where that is all there is.

use super::who::Name;
use super::{Error, Plan, iptables, nft};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the rules are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// nftables.
    Nft,
    /// iptables and ip6tables.
    Iptables,
}

impl Backend {
    /// nftables where it is there, or else iptables where that is.
    pub fn found() -> Self {
        Self::all_found().first().copied().unwrap_or(Self::Nft)
    }

    /// Every one that is there.
    pub fn all_found() -> Vec<Self> {
        let here = |(tool, backend)| find(tool).map(|_| backend);
        let all = [("nft", Self::Nft), ("iptables-restore", Self::Iptables)];
        all.into_iter().filter_map(here).collect()
    }
}

/// Moves this thread, and with it the programs it starts, to the network namespace of that name (`ip netns add NAME`) or
/// file (`/proc/PID/ns/net`).
///
/// # Errors
/// When there is none, or it may not be entered.
pub fn enter(namespace: &str) -> Result<(), Error> {
    let path = if namespace.contains('/') {
        PathBuf::from(namespace)
    } else {
        Path::new("/run/netns").join(namespace)
    };
    let moved = File::open(&path).and_then(|file| {
        Ok(move_into_link_name_space(
            file.as_fd(),
            Some(LinkNameSpaceType::Network),
        )?)
    });
    moved.map_err(|cause| Error::Namespace { path, cause })
}

/// The programs that change the kernel's rules.
#[derive(Debug)]
pub struct Tools(Backend);

impl Tools {
    /// Takes those of `backend`.
    ///
    /// # Errors
    /// When they are not there, or this process may not change rules.
    pub fn new(backend: Backend) -> Result<Self, Error> {
        match backend {
            Backend::Nft => need("nft", "nftables")?,
            Backend::Iptables => need("iptables-restore", "iptables")?,
        };
        let capable = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN));
        if !capable {
            return Err(Error::NotAllowed);
        }
        Ok(Self(backend))
    }

    /// Puts the plan in force, in place of what stood under its name.
    ///
    /// # Errors
    /// When the tool refuses.
    pub fn apply(&self, plan: &Plan) -> Result<(), Error> {
        match self.0 {
            Backend::Nft => run("nft", "nftables", &["-f", "-"], &plan.nft()).map(drop),
            Backend::Iptables => {
                let parts: Vec<_> = plan.iptables().into_iter().filter(|part| is_there(part.tool)).collect();
                let mut written = Vec::new();
                for part in &parts {
                    let text = part.replacing(&plan.name, &saved(part.tool, part.table)?);
                    restore(part.tool, &["--noflush", "--test"], &text)?;
                    written.push((part.tool, text));
                }
                written
                    .iter()
                    .try_for_each(|(tool, text)| restore(tool, &["--noflush"], text))
            }
        }
    }

    /// Takes the rules of that name out, if they are there.
    ///
    /// # Errors
    /// When the tool refuses.
    pub fn remove(&self, name: &Name) -> Result<(), Error> {
        if self.0 == Backend::Nft {
            return run("nft", "nftables", &["-f", "-"], &nft::removal(name)).map(drop);
        }
        // `nat` first, as it was put in force last.
        for (tool, table) in ["ip6tables", "iptables"]
            .into_iter()
            .flat_map(|tool| [(tool, "nat"), (tool, "filter")])
        {
            if !is_there(tool) {
                continue;
            }
            if let Some(text) = iptables::removal(name, table, &saved(tool, table)?) {
                restore(tool, &["--noflush"], &text)?;
            }
        }
        Ok(())
    }
}

/// Whether the family is there at all: a kernel without IPv6 needs no rules for it.
fn is_there(tool: &str) -> bool {
    tool == "iptables" || Path::new("/proc/self/net/if_inet6").exists()
}

fn saved(tool: &str, table: &str) -> Result<String, Error> {
    let (name, package) = match tool {
        "ip6tables" => ("ip6tables-save", "iptables"),
        _ => ("iptables-save", "iptables"),
    };
    run(name, package, &["-t", table], "")
}

fn restore(tool: &str, flags: &[&str], text: &str) -> Result<(), Error> {
    let name = match tool {
        "ip6tables" => "ip6tables-restore",
        _ => "iptables-restore",
    };
    run(name, "iptables", flags, text).map(drop)
}

/// Runs a tool to its end; what it printed.
fn run(name: &'static str, package: &'static str, arguments: &[&str], input: &str) -> Result<String, Error> {
    let tool = need(name, package)?;
    let start = |cause: io::Error| Error::Start {
        tool: tool.clone(),
        cause,
    };
    let mut child = Command::new(&tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    // A tool that stops reading says why by itself. None of them prints before it has read all.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(Error::Refused {
        said: text(&output.stderr),
        tool,
    })
}

fn need(name: &'static str, package: &'static str) -> Result<PathBuf, Error> {
    find(name).ok_or(Error::NoTool(name, package))
}

/// Finds a tool on PATH, or where it is although it is not on most users' PATH.
fn find(name: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "where this machine's programs are")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.find_map(|folder| Some(folder.join(name)).filter(|tool| tool.is_file()))
}
