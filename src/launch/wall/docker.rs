//! A container of Docker's or Podman's, as hard as they make one: no network but loopback, no capability, a root that is
//! read-only, and bounds on all that it may use. Keyferry's bridge is its first process.

use super::super::Error;
use super::carried::{Carried, DIR};
use super::engine::{Caller, Engine, Image, LABEL};
use super::inside::{self, Bind, Etc, unwritten};
use super::{Built, HOME, OWN, Plan, ROOM, seccomp};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The files that a command line refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Variables, a line each.
    pub environment: PathBuf,
    /// Which system calls are refused.
    pub profile: PathBuf,
    /// Keyferry's program, with what it needs there.
    pub carried: Carried,
}

/// Writes the files, and makes the command line that puts the plan's command into a container.
///
/// # Errors
/// When there is no client, a file cannot be written, or a variable cannot be handed over.
pub fn build(engine: Engine, plan: &Plan, caller: Caller) -> Result<Built, Error> {
    let client = engine.client()?;
    let files = Files::write(plan)?;
    let mut words = vec![client.into_os_string()];
    words.extend(arguments(engine, plan, &files)?);
    Ok(Built {
        words,
        vars: caller,
        open: None,
        machine: None,
    })
}

impl Files {
    /// Writes them beside the plan's own.
    ///
    /// # Errors
    /// When the system does not let it, or a variable's value has more than one line.
    pub fn write(plan: &Plan) -> Result<Self, Error> {
        Etc::write(&plan.dir, plan.user)?;
        inside::hand_over(&plan.dir, plan.user)?;
        let carried = match plan.image {
            Some(_) => Carried::whole(&plan.program)?,
            None => Carried::alone(&plan.program),
        };
        let files = Self {
            environment: plan.dir.with_file_name("environment"),
            profile: plan.dir.with_file_name("seccomp.json"),
            carried,
        };
        let mut lines = Vec::new();
        for (name, value) in plan.vars.iter().chain(&blank()) {
            if value.as_bytes().contains(&b'\n') || value.to_str().is_none() {
                return Err(Error::Variable(name.clone()));
            }
            lines.extend([name.as_bytes(), b"=", value.as_bytes(), b"\n"].concat());
        }
        let private = |path: &Path, bytes: &[u8]| {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let written = options.open(path).and_then(|mut file| file.write_all(bytes));
            written.map_err(|cause| unwritten(path, cause))
        };
        private(&files.environment, &lines)?;
        private(&files.profile, seccomp::PROFILE.as_bytes())?;
        Ok(files)
    }
}

/// Variables that a client sets by itself where its own configuration names a proxy for containers: none but Keyferry's.
fn blank() -> [(OsString, OsString); 2] {
    ["FTP_PROXY", "ftp_proxy"].map(|name| (name.into(), OsString::new()))
}

/// The arguments for `docker` or `podman`.
///
/// # Errors
/// When a path cannot be written as a client reads it.
pub fn arguments(engine: Engine, plan: &Plan, files: &Files) -> Result<Vec<OsString>, Error> {
    let mut line = Line(vec!["run".into()]);
    line.identity(engine, plan);
    line.walls(engine, files);
    line.bounds(plan);
    line.rooms(engine, plan);
    line.files(plan, files)?;
    line.pair("--env-file", &files.environment);
    line.pair("--workdir", &plan.workdir.path);
    let bridge = plan.bridge(&files.carried.words);
    let (program, arguments) = bridge.split_first().ok_or(Error::NoCommand)?;
    line.pair("--entrypoint", program);
    let image = plan.image.as_ref();
    line.add([image.map_or_else(super::skeleton::tag, |image| image.name.clone())]);
    line.add(arguments);
    line.add(command(&plan.words, image)?);
    Ok(line.0)
}

/// As the engine itself would: the image's entrypoint, then the words given, or else the image's own.
pub(super) fn command(words: &[OsString], image: Option<&Image>) -> Result<Vec<OsString>, Error> {
    let own = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut all = image.map(|image| own(&image.entrypoint)).unwrap_or_default();
    match (words, image) {
        ([], Some(image)) => all.extend(own(&image.command)),
        _ => all.extend(words.iter().cloned()),
    }
    if all.is_empty() { Err(Error::NoCommand) } else { Ok(all) }
}

/// Where it may write, beside what is shared: all of it in memory, and nothing of it a program.
pub(super) fn rooms(engine: Engine, plan: &Plan) -> Vec<String> {
    let (uid, gid) = (plan.user.uid, plan.user.gid);
    let room = |path: &str, mode: &str| {
        let owned = match engine {
            // It knows no owner of such a place; inside is nobody but the command.
            Engine::Podman => "mode=1777".to_owned(),
            Engine::Docker | Engine::DockerGvisor => format!("mode={mode},uid={uid},gid={gid}"),
        };
        format!("{path}:rw,noexec,nosuid,nodev,size={ROOM},{owned}")
    };
    let mut rooms = vec![room("/tmp", "1777"), room(HOME, "0700")];
    // What an image declares so would be a directory on the disk, without a bound.
    let volumes = plan.image.iter().flat_map(|image| &image.volumes);
    rooms.extend(volumes.map(|volume| room(volume, "0755")));
    rooms
}

/// All that a container sees of the machine's files.
pub(super) fn binds(plan: &Plan, carried: &Carried) -> Vec<Bind> {
    let mut binds = match plan.image {
        Some(_) => inside::over_image(plan),
        None => inside::system(plan),
    };
    let files = carried.files.iter();
    binds.extend(files.map(|(from, name)| Bind::read(from, Path::new(DIR).join(name))));
    binds.push(Bind::read(&plan.socket_dir, format!("{OWN}/proxy")));
    binds.push(Bind::read(&plan.dir, &plan.dir));
    binds.extend(inside::shared(plan));
    let mut below = inside::below(&binds);
    below.retain(|one| binds.iter().all(|bind| bind.to != one.to));
    binds.extend(below);
    binds
}

/// Open files, and processes of a user's, where an engine wants a number.
const LIMIT: u64 = 1 << 15;

struct Line(Vec<OsString>);

impl Line {
    fn add<T: Into<OsString>>(&mut self, words: impl IntoIterator<Item = T>) {
        self.0.extend(words.into_iter().map(Into::into));
    }

    fn pair(&mut self, flag: &str, value: impl AsRef<OsStr>) {
        self.add([OsStr::new(flag), value.as_ref()]);
    }

    /// Which container it is, and who is in it.
    fn identity(&mut self, engine: Engine, plan: &Plan) {
        self.add([
            "--rm",
            "--pull=never",
            "--no-healthcheck",
            "--hostname=agent",
            "--interactive",
        ]);
        self.add(plan.terminal.then_some("--tty"));
        // Left by these keys, it would go on without anybody.
        self.add(plan.terminal.then_some("--detach-keys=ctrl-^,ctrl-@,ctrl-^,ctrl-@"));
        if let Some(mark) = &plan.mark {
            self.add([format!("--name={}", mark.name()), format!("--label={LABEL}={mark}")]);
        }
        self.add([format!("--user={}:{}", plan.user.uid, plan.user.gid)]);
        match engine {
            Engine::Docker => {}
            Engine::DockerGvisor => self.add(["--runtime=runsc"]),
            // Without root its containers have users of their own, of which the caller is to be one.
            Engine::Podman if rustix::process::geteuid().is_root() => {}
            Engine::Podman => self.add(["--userns=keep-id"]),
        }
    }

    /// What it cannot do.
    fn walls(&mut self, engine: Engine, files: &Files) {
        self.add(["--network=none", "--ipc=private", "--read-only", "--cap-drop=ALL"]);
        self.add(["--security-opt=no-new-privileges"]);
        // gVisor's own kernel answers the calls, and has none of what the list refuses.
        if engine != Engine::DockerGvisor {
            let mut profile = OsString::from("--security-opt=seccomp=");
            profile.push(&files.profile);
            self.add([profile]);
        }
        // What it prints goes to the caller alone; kept on the disk as well, it could fill that.
        self.add(["--log-driver=none"]);
        if engine == Engine::Podman {
            // By default there are places to write to in a read-only root.
            self.add(["--read-only-tmpfs=false", "--no-hosts", "--http-proxy=false"]);
            for (name, resource) in [
                ("nofile", rustix::process::Resource::Nofile),
                ("nproc", rustix::process::Resource::Nproc),
            ] {
                // It raises both by default, which not everybody may; nor may its runtime always keep all that we have.
                let ours = rustix::process::getrlimit(resource).maximum.unwrap_or(LIMIT);
                let limit = ours.min(LIMIT);
                self.add([format!("--ulimit={name}={limit}:{limit}")]);
            }
        }
    }

    /// What it may use.
    fn bounds(&mut self, plan: &Plan) {
        let most = plan.most;
        self.add([
            format!("--memory={}", most.memory),
            format!("--memory-swap={}", most.memory),
        ]);
        self.add([format!("--cpus={}", most.cpus), format!("--pids-limit={}", most.tasks)]);
    }

    fn rooms(&mut self, engine: Engine, plan: &Plan) {
        self.add(rooms(engine, plan).into_iter().map(|room| format!("--tmpfs={room}")));
        self.add([format!("--shm-size={ROOM}")]);
    }

    fn files(&mut self, plan: &Plan, files: &Files) -> Result<(), Error> {
        binds(plan, &files.carried).iter().try_for_each(|bind| self.bind(bind))
    }

    fn bind(&mut self, bind: &Bind) -> Result<(), Error> {
        let field = |name: &str, path: &Path| {
            let path = path.to_str().filter(|path| !path.contains(['\n', '\r']));
            let path = path.ok_or_else(|| Error::Directory(bind.from.clone()))?;
            let field = format!("{name}={path}");
            // A client reads fields as those of a CSV file.
            Ok(if path.contains([',', '"']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field
            })
        };
        let mut fields = vec![
            "type=bind".to_owned(),
            field("source", &bind.from)?,
            field("target", &bind.to)?,
        ];
        fields.extend((!bind.writable).then(|| "readonly".to_owned()));
        self.add(["--mount".to_owned(), fields.join(",")]);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
