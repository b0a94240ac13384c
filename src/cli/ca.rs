//! `keyferry ca`: where the CA's certificate is, in which form, and whether the system trusts it.

use crate::ca::authority::Authority;
use crate::ca::bundle;
use crate::config::model::CaSource;
use crate::launch::trust::SystemStore;
use anyhow::{Context, bail};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The CA whose leaves agents meet.
#[derive(Debug, clap::Args)]
pub struct CaArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print where the certificate is; a CA that is not there yet is made.
    Path,
    /// Write the certificate (never the key) to standard output or a file.
    Export {
        /// In which form.
        #[arg(long, value_enum, default_value_t = Format::Pem)]
        format: Format,
        /// The file to write, instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Have this system trust the CA (needs root). `keyferry run` does not need it.
    Install,
    /// Have this system trust the CA no more (needs root).
    Uninstall {
        /// Take out every Keyferry CA, not only the one of this configuration.
        #[arg(long)]
        all: bool,
    },
}

/// A form of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Text, as nearly everything wants it.
    Pem,
    /// The same in binary.
    Der,
    /// A trust store for Java (PKCS#12, any password).
    P12,
    /// With this system's public roots behind it, as text: for settings that replace what is trusted.
    Bundle,
}

/// What every file of ours in the system's store begins with.
const PREFIX: &str = "keyferry-";

/// Runs the verb on the CA that the config names.
///
/// # Errors
/// When the CA cannot be opened, the file not be written, or the system's store not be changed.
pub fn run(args: CaArgs, source: &CaSource) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match args.verb {
        Verb::Path => writeln!(out, "{}", certificate_path(source)?.display())?,
        Verb::Export { format, out: file } => export(source, format, file, &mut out)?,
        Verb::Install => install(source, &mut out)?,
        Verb::Uninstall { all } => uninstall(source, all, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The CA, unless it would be gone when this command ends.
fn lasting(source: &CaSource) -> anyhow::Result<Authority> {
    if matches!(source, CaSource::Memory) {
        bail!(
            "the CA of this configuration lives in memory and is another at each start; \
             for one that lasts write `ca: {{ dir: DIRECTORY }}` in the config"
        );
    }
    Ok(Authority::open(source)?)
}

fn certificate_path(source: &CaSource) -> anyhow::Result<PathBuf> {
    let authority = lasting(source)?;
    let path = authority.certificate_path().context("the CA has no file")?;
    Ok(std::path::absolute(path)?)
}

fn export(source: &CaSource, format: Format, file: Option<PathBuf>, out: &mut impl Write) -> anyhow::Result<()> {
    let authority = lasting(source)?;
    let content = match format {
        Format::Pem => authority.certificate_pem().into_bytes(),
        Format::Der => authority.certificate_der().to_vec(),
        Format::P12 => bundle::p12(&authority),
        Format::Bundle => bundle::pem(&authority).into_bytes(),
    };
    match file {
        Some(path) => std::fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?,
        None if matches!(format, Format::Der | Format::P12) && io::stdout().is_terminal() => {
            bail!("this form is binary and would upset a terminal; name a file with `--out FILE`")
        }
        None => out.write_all(&content)?,
    }
    Ok(())
}

fn install(source: &CaSource, out: &mut impl Write) -> anyhow::Result<()> {
    let authority = lasting(source)?;
    let store = SystemStore::detect()?;
    let name = format!("{PREFIX}{}", authority.short_id());
    let new = store.install(&name, &authority.certificate_pem())?;
    let path = store.path(&name);
    match new {
        true => writeln!(out, "this system now trusts the CA: {}", path.display())?,
        false => writeln!(out, "this system trusted the CA already: {}", path.display())?,
    }
    writeln!(
        io::stderr(),
        "Programs with a trust store of their own do not ask the system: browsers, Node, Python's requests.\n\
         `keyferry run` sets what those need; ca/README.md says how to do it by hand.\n\
         To take it out again: keyferry ca uninstall"
    )?;
    Ok(())
}

fn uninstall(source: &CaSource, all: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let store = SystemStore::detect()?;
    let paths = match all {
        true => store.installed(PREFIX)?,
        // Opening a CA that was never made would make it.
        false if Authority::is_made(source) => {
            vec![store.path(&format!("{PREFIX}{}", lasting(source)?.short_id()))]
        }
        false => bail!("this configuration has no CA yet; to take out those of others: `keyferry ca uninstall --all`"),
    };
    let mut removed = 0;
    for path in paths {
        if store.uninstall(&path)? {
            writeln!(out, "this system no longer trusts {}", path.display())?;
            removed += 1;
        }
    }
    if removed == 0 {
        writeln!(out, "this system did not trust the CA; nothing to do")?;
    }
    Ok(())
}
