//! A wall as a text for people to take away: a command for a shell, or a file for Compose.

use super::super::Error;
use super::carried::Carried;
use super::docker::{self, Files};
use super::engine::{Caller, Engine};
use super::{Kind, Plan, ROOM, bwrap, gvisor, seatbelt, skeleton};
use std::ffi::{OsStr, OsString};
use std::fmt::Write;

/// The command line that [`Kind::build`] has, as a shell reads it, with the files that it needs.
///
/// # Errors
/// As [`Kind::build`]; or when a word of it is no UTF-8.
pub fn shell(kind: Kind, plan: &Plan, caller: &Caller) -> Result<String, Error> {
    let (words, tail) = match kind {
        Kind::Bwrap => {
            let filter = bwrap::write(plan)?;
            let mut words = alone(plan);
            words.push("bwrap".into());
            words.extend(bwrap::arguments(plan, FILTER));
            (words, format!(" {FILTER}< {}", quoted(filter.as_os_str())?))
        }
        Kind::Container(engine) => {
            let mut words = vec![engine.program().into()];
            words.extend(docker::arguments(engine, plan, &Files::write(plan)?)?);
            (words, String::new())
        }
        Kind::Seatbelt => {
            let mut words = alone(plan);
            words.extend(seatbelt::words(plan)?);
            (words, String::new())
        }
        // It would wait for Keyferry to tell it of its command.
        Kind::Machine => {
            return Err(Error::Machine(
                "it is not printed, as it talks to the Keyferry that runs it".into(),
            ));
        }
        Kind::Gvisor => {
            let mut words = vec![gvisor::runsc(caller)?.into_os_string()];
            words.extend(gvisor::arguments(plan, &gvisor::write(plan)?));
            (words, String::new())
        }
    };
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        let flag = word.as_encoded_bytes().starts_with(b"-");
        text.push_str(match (at, flag) {
            (0, _) => "",
            (_, true) => " \\\n  ",
            (_, false) => " ",
        });
        text.push_str(&quoted(word)?);
    }
    Ok(text + &tail + "\n")
}

/// Starts a wall with what the command gets of variables, and no other.
fn alone(plan: &Plan) -> Vec<OsString> {
    let pair = |(name, value): &(OsString, OsString)| {
        let mut word = name.clone();
        word.push("=");
        word.push(value);
        word
    };
    let fixed = ["env", "-i"].map(OsString::from);
    fixed.into_iter().chain(plan.vars.iter().map(pair)).collect()
}

/// The descriptor by which bubblewrap gets its filter.
const FILTER: i32 = 9;

/// One word of a shell's, whatever is in it.
fn quoted(word: &OsStr) -> Result<String, Error> {
    let text = word.to_str().ok_or_else(|| Error::Directory(word.into()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}

/// A file for Docker Compose, with one service that is the command, and the files that it needs.
///
/// # Errors
/// As [`docker::build`]; or when a path of it is no UTF-8.
pub fn compose(engine: Engine, plan: &Plan) -> Result<String, Error> {
    let files = Files::write(plan)?;
    let text = |word: &OsStr| {
        word.to_str()
            .map(ToOwned::to_owned)
            .ok_or_else(|| Error::Directory(word.into()))
    };
    let image = plan.image.as_ref();
    let bridge = plan.bridge(&files.carried.words);
    let command = docker::command(&plan.words, image)?;
    let words = bridge
        .iter()
        .chain(&command)
        .map(|word| text(word))
        .collect::<Result<Vec<_>, _>>()?;
    let mut file = Service("services:\n  agent:\n".to_owned());
    file.one("image", &image.map_or_else(skeleton::tag, |image| image.name.clone()));
    file.list("entrypoint", &words);
    file.list("command", &[]);
    file.one("user", &format!("{}:{}", plan.user.uid, plan.user.gid));
    file.one("working_dir", &text(plan.workdir.path.as_os_str())?);
    file.list("env_file", &[text(files.environment.as_os_str())?]);
    if engine == Engine::DockerGvisor {
        file.one("runtime", "runsc");
    }
    for (name, value) in [
        ("network_mode", "none"),
        ("ipc", "private"),
        ("hostname", "agent"),
        ("restart", "no"),
    ] {
        file.one(name, value);
    }
    for (name, on) in [("read_only", true), ("stdin_open", true), ("tty", plan.terminal)] {
        file.raw(name, &on.to_string());
    }
    file.list("cap_drop", &["ALL".into()]);
    let mut options = vec!["no-new-privileges".to_owned()];
    if engine != Engine::DockerGvisor {
        options.push(format!("seccomp={}", text(files.profile.as_os_str())?));
    }
    file.list("security_opt", &options);
    for (name, value) in [
        ("mem_limit", plan.most.memory),
        ("memswap_limit", plan.most.memory),
        ("shm_size", ROOM),
    ] {
        file.one(name, &value.to_string());
    }
    file.raw("cpus", &format!("{}.0", plan.most.cpus));
    file.raw("pids_limit", &plan.most.tasks.to_string());
    file.raw("logging", "{ driver: none }");
    file.raw("healthcheck", "{ disable: true }");
    file.list("tmpfs", &docker::rooms(engine, plan));
    file.volumes(plan, &files.carried)?;
    Ok(file.0)
}

/// The lines of a service, in which strings stand as JSON has them, and a `$` is none of Compose's own.
struct Service(String);

impl Service {
    fn raw(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "    {name}: {value}");
    }

    fn one(&mut self, name: &str, value: &str) {
        self.raw(name, &string(value));
    }

    fn list(&mut self, name: &str, values: &[String]) {
        let values: Vec<_> = values.iter().map(|value| string(value)).collect();
        self.raw(name, &format!("[{}]", values.join(", ")));
    }

    fn volumes(&mut self, plan: &Plan, carried: &Carried) -> Result<(), Error> {
        self.0.push_str("    volumes:\n");
        for bind in docker::binds(plan, carried) {
            let (Some(from), Some(to)) = (bind.from.to_str(), bind.to.to_str()) else {
                return Err(Error::Directory(bind.from));
            };
            let _ = writeln!(
                self.0,
                "      - {{ type: bind, source: {}, target: {}, read_only: {} }}",
                string(from),
                string(to),
                !bind.writable
            );
        }
        Ok(())
    }
}

fn string(text: &str) -> String {
    serde_json::Value::from(text.replace('$', "$$")).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_shell_reads_back_every_word_as_it_is() {
        let words = [
            "a",
            "",
            "it's",
            "$HOME `x` \\ \"q\"",
            "new\nline",
            "*",
            "~",
            "#c",
            "a=b c",
            "!",
        ];
        let line: Vec<_> = words.iter().map(|word| quoted(OsStr::new(word)).unwrap()).collect();
        let script = format!("for w in {}; do printf '%s\\0' \"$w\"; done", line.join(" "));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), words);
    }
}
