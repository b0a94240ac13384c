//! `keyferry sandbox`: walls to take away, and roots for machines.

use super::settings::{self, Failed};
use super::wall::{WallArgs, tell};
use crate::app::print::{Format, Request, print};
use crate::launch::wall::vm::image;
use anyhow::Result;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `sandbox` takes.
#[derive(Debug, clap::Args)]
pub struct SandboxArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print the command that builds the wall of `run`, around a command that goes through a running `serve`
    Print(Box<PrintArgs>),
    /// Unpack an engine's image into a directory, for `run --sandbox vm --rootfs`
    Image(ImageArgs),
}

/// What `sandbox image` takes.
#[derive(Debug, clap::Args)]
struct ImageArgs {
    /// The image, as in `docker:debian:12` or `podman:debian:12`; the engine must have it
    #[arg(long, value_name = "ENGINE:IMAGE")]
    from: image::Source,
    /// The directory to make
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
}

/// What `sandbox print` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is printed goes through the first unix socket that the config listens on (a Mac's, the first TCP port), and refers to files in the directory of
`--out`, which must stay. Who the command is to `serve` is the config's to say, such as by `peer_uid`.")]
struct PrintArgs {
    #[command(flatten)]
    wall: WallArgs,
    /// `command`, for a shell; `compose`, a file for Docker Compose; `oci`, a bundle's config.json
    #[arg(long, value_name = "FORMAT", default_value = "command")]
    format: Written,
    /// Where the files go that it refers to: certificates, variables, filters; without it, a directory of Keyferry's own
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave a variable that looks like a credential in the command's environment (repeatable)
    #[arg(long, value_name = "NAME")]
    keep_env: Vec<String>,
    /// The command; an image may have one of its own
    #[arg(last = true, required_unless_present = "image", value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Written {
    Command,
    Compose,
    Oci,
}

/// Does what the verb says.
///
/// # Errors
/// When the config has mistakes or no unix socket, or the wall cannot be had.
pub fn run(args: SandboxArgs, explicit: Option<&Path>) -> Result<ExitCode> {
    settings::log("warn");
    let args = match args.verb {
        Verb::Print(args) => *args,
        Verb::Image(args) => {
            let caller: Vec<_> = std::env::vars_os().collect();
            image::unpack(&args.from, &args.out, &caller)?;
            settings::say(&format!(
                "{0} is made; `keyferry run --sandbox vm --rootfs {0}`",
                args.out.display()
            ));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let config = settings::need_config(explicit)?.0;
    let Some(wall) = args.wall.read()? else {
        return Err(Failed::Usage("say which wall with `--sandbox`; `none` is nothing to print".to_owned()).into());
    };
    let data_dir = settings::data_dir()?;
    let request = Request {
        out: args
            .out
            .unwrap_or_else(|| data_dir.join("sandbox").join(wall.kind.name())),
        wall,
        words: args.command,
        environment: std::env::vars_os().collect(),
        keep: args.keep_env,
        data_dir,
        format: match args.format {
            Written::Command => Format::Command,
            Written::Compose => Format::Compose,
            Written::Oci => Format::Oci,
        },
    };
    let printed = settings::block_on(print(config, request))?;
    tell(&printed.masked, &printed.withheld, &printed.placeholders);
    settings::say(&format!(
        "keyferry: it goes through {}: `keyferry serve` must run, and let its user connect",
        printed.through
    ));
    std::io::stdout().write_all(printed.text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
