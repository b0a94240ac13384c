//! gVisor: a kernel of the command's own, in a process that has few system calls of the machine's. With an image it is
//! Docker's runtime; without one, `runsc` is given a bundle.

use super::super::Error;
use super::engine::{self, Caller, Engine, find, output};
use super::inside::{Etc, hand_over, unwritten};
use super::mark::Mark;
use super::{Built, Plan, oci, skeleton};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How gVisor gets hold of its command's system calls, the best first. `kvm` is not among them: where it does not work, it
/// is not refused but hangs.
const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];

/// In Keyferry's directory, the file that keeps which of them works.
pub const KNOWN: &str = "gvisor-platform";

/// Writes the bundle, and makes the command line that has `runsc` run it.
///
/// # Errors
/// When there is no `runsc`, or a file cannot be written.
pub fn build(plan: &Plan, caller: Caller) -> Result<Built, Error> {
    let runsc = runsc(&caller)?;
    let bundle = write(plan)?;
    let mut words = vec![runsc.into_os_string()];
    words.extend(arguments(plan, &bundle));
    Ok(Built {
        words,
        vars: caller,
        open: None,
        machine: None,
    })
}

/// Writes a bundle, its configuration and an empty root, and says where it is.
///
/// # Errors
/// When the system does not let it.
pub fn write(plan: &Plan) -> Result<PathBuf, Error> {
    Etc::write(&plan.dir, plan.user)?;
    hand_over(&plan.dir, plan.user)?;
    let bundle = plan.dir.with_file_name("bundle");
    let root = bundle.join("rootfs");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root)
        .and_then(|()| skeleton::make(&root))
        .map_err(|cause| unwritten(&root, cause))?;
    let config = bundle.join("config.json");
    let mut options = fs::OpenOptions::new();
    // Variables are in it.
    options.write(true).create(true).truncate(true).mode(0o600);
    let text = serde_json::to_vec_pretty(&oci::config(plan)).unwrap_or_default();
    let written = options.open(&config).and_then(|mut file| file.write_all(&text));
    written.map_err(|cause| unwritten(&config, cause))?;
    Ok(bundle)
}

/// The arguments for `runsc`. What it keeps of a running container goes beside the bundle.
pub fn arguments(plan: &Plan, bundle: &Path) -> Vec<OsString> {
    let mut state = OsString::from("--root=");
    state.push(bundle.with_file_name("runsc"));
    let mut words = vec![state];
    words.extend(flags(plan.platform).map(OsString::from));
    words.extend(rootless().map(OsString::from));
    // The proxy's sockets, which are all that is shown, are the machine's.
    words.extend(["--host-uds=open", "run", "--bundle"].map(OsString::from));
    let name = plan.mark.as_ref().map_or_else(|| "keyferry".to_owned(), Mark::name);
    words.extend([bundle.into(), name.into()]);
    words
}

/// Control groups are made by Keyferry, where they can be.
fn flags(platform: &str) -> [String; 3] {
    [
        format!("--platform={platform}"),
        "--network=none".into(),
        "--ignore-cgroups".into(),
    ]
}

fn rootless() -> Option<&'static str> {
    (!rustix::process::geteuid().is_root()).then_some("--rootless")
}

/// Has what is written to a file go to its end, until dropped: gVisor counts from where the file began, and would write over
/// what others, Keyferry among them, have written meanwhile.
#[derive(Debug)]
pub struct Appending(Vec<(BorrowedFd<'static>, OFlags)>);

impl Appending {
    /// For standard output and standard error, where they are files.
    pub fn begin() -> Self {
        let files = [rustix::stdio::stdout(), rustix::stdio::stderr()]
            .into_iter()
            .filter_map(|stream| {
                let kind = FileType::from_raw_mode(fstat(stream).ok()?.st_mode);
                let before = fcntl_getfl(stream).ok().filter(|_| kind == FileType::RegularFile)?;
                fcntl_setfl(stream, before | OFlags::APPEND).ok()?;
                Some((stream, before))
            });
        Self(files.collect())
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        for (stream, before) in &self.0 {
            let _ = fcntl_setfl(stream, *before);
        }
    }
}

/// Where `runsc` is.
///
/// # Errors
/// When it is nowhere.
pub fn runsc(caller: &Caller) -> Result<PathBuf, Error> {
    let path = caller.iter().find(|(name, _)| name == "PATH").map(|(_, dirs)| dirs);
    let dirs = path
        .map(|dirs| std::env::split_paths(dirs).collect::<Vec<_>>())
        .unwrap_or_default();
    let further = dirs
        .into_iter()
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("runsc"));
    let found = find("runsc").or_else(|| further.into_iter().find(|path| path.is_file()));
    found.ok_or(Error::NoWall(
        "gVisor",
        "put its `runsc` on PATH (Debian's package `runsc`, 0.0~2024 or newer)",
    ))
}

/// The platform that works here. To find out takes as long as a start, so it is kept in `known` for this very program,
/// kernel and user.
///
/// # Errors
/// When there is no `runsc`, or none of its platforms works.
pub fn platform(caller: &Caller, known: &Path) -> Result<&'static str, Error> {
    let runsc = runsc(caller)?;
    let meta = fs::metadata(&runsc).map_err(|cause| Error::File {
        what: "cannot read",
        path: runsc.clone(),
        cause,
    })?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let user = rustix::process::geteuid().as_raw();
    let here = format!(
        "{} {} {} {user} {}",
        runsc.display(),
        meta.size(),
        meta.mtime(),
        kernel.trim()
    );
    let told = fs::read_to_string(known).unwrap_or_default();
    let kept = told.split_once('\n').filter(|(which, _)| *which == here);
    if let Some(platform) = PLATFORMS
        .iter()
        .find(|platform| kept.is_some_and(|(_, kept)| kept == **platform))
    {
        return Ok(platform);
    }
    let mut last = String::new();
    for platform in PLATFORMS {
        match tries(&runsc, platform) {
            Ok(()) => {
                let _ = fs::write(known, format!("{here}\n{platform}"));
                return Ok(platform);
            }
            Err(why) => last = why,
        }
    }
    Err(Error::Engine(format!("gVisor does not run here: {last}")))
}

fn tries(runsc: &Path, platform: &str) -> Result<(), String> {
    let state = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut root = OsString::from("--root=");
    root.push(state.path());
    let mut command = Command::new(runsc);
    command
        .arg(root)
        .args(flags(platform))
        .args(rootless())
        .args(["do", "/bin/true"]);
    let tried = output(command.env_clear(), None).map_err(|e| e.to_string())?;
    let said = || {
        String::from_utf8_lossy(&tried.stderr)
            .trim()
            .lines()
            .next_back()
            .unwrap_or_default()
            .to_owned()
    };
    if tried.status.success() { Ok(()) } else { Err(said()) }
}

#[derive(Debug, Deserialize)]
struct Runtime {
    #[serde(rename = "runtimeArgs", default)]
    arguments: Option<Vec<String>>,
}

/// What Docker's daemon says of itself.
#[derive(Debug, Deserialize)]
struct Daemons {
    #[serde(rename = "Runtimes")]
    runtimes: BTreeMap<String, Runtime>,
}

/// Whether Docker has gVisor's runtime, with the flags that it needs.
///
/// # Errors
/// When it has not, with the lines of Docker's configuration that give it one.
pub(super) fn registered(caller: &Caller) -> Result<(), Error> {
    let engine = Engine::DockerGvisor;
    let runtimes = match engine.told::<Daemons>(caller, "/info") {
        Some(daemon) => daemon.runtimes,
        None => {
            let told = engine.ask(caller, &["info", "--format", "{{json .Runtimes}}"])?;
            if !told.status.success() {
                return Err(engine::refusal(engine, "", &told));
            }
            serde_json::from_slice(&told.stdout).unwrap_or_default()
        }
    };
    let wrong = match runtimes.get("runsc") {
        None => "Docker has no runtime `runsc`",
        Some(runtime) if !opens_sockets(runtime) => {
            "Docker's runtime `runsc` keeps the proxy's socket from the command"
        }
        Some(_) => return Ok(()),
    };
    let path = runsc(caller).unwrap_or_else(|_| "/usr/bin/runsc".into());
    Err(Error::Engine(format!(
        "{wrong}; write this into /etc/docker/daemon.json, and `systemctl restart docker`:\n\
         {{ \"runtimes\": {{ \"runsc\": {{ \"path\": \"{}\",\n  \
         \"runtimeArgs\": [\"--platform=systrap\", \"--network=none\", \"--host-uds=open\"] }} }} }}\n\
         or leave `--image` out: without one, Docker is not needed",
        path.display()
    )))
}

fn opens_sockets(runtime: &Runtime) -> bool {
    let arguments = runtime.arguments.iter().flatten();
    let mut flags = arguments.map(|flag| flag.trim_start_matches('-'));
    flags.any(|flag| {
        matches!(
            flag,
            "host-uds=open" | "host-uds=all" | "fsgofer-host-uds" | "fsgofer-host-uds=true"
        )
    })
}
