//! The output of a program as a source. One run at a time, however many wait; a program that fails
//! is left alone for a while.

use super::error::{Cause, LONGEST};
use super::source::{self, Shape};
use crate::base::secret::Secret;
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

/// The environment that a program has.
pub(super) enum Around {
    /// Keyferry's own.
    Own,
    /// No more than where programs and the user's home are.
    Bare,
    /// The same, and where the bus of the desktop's session is.
    Session,
    /// The same, and one variable with a secret.
    Only(&'static str, Zeroizing<String>),
}

impl Around {
    fn put_on(self, command: &mut Command) {
        if matches!(self, Self::Own) {
            return;
        }
        command.env_clear();
        let bus: &[_] = match self {
            Self::Session => &["DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"],
            Self::Own | Self::Bare | Self::Only(..) => &[],
        };
        for kept in ["PATH", "HOME"].iter().chain(bus) {
            #[expect(clippy::disallowed_methods, reason = "what a program of others cannot do without")]
            let value = std::env::var_os(kept);
            command.envs(value.map(|value| (kept, value)));
        }
        if let Self::Only(name, value) = self {
            // The copy that the command holds is not wiped; it goes with the command.
            command.env(name, value.as_str());
        }
    }
}

/// Runs `argv` and takes what it prints.
///
/// # Errors
/// As [`answer`], and when what it printed is no credential.
pub(super) async fn run(argv: &[String], timeout: Duration, shape: &Shape, around: Around) -> Result<Secret, Cause> {
    // The bytes move out of their wrapper into the secret, which wipes them.
    let mut bytes = answer(argv, timeout, None, around).await?;
    source::shaped(std::mem::take(&mut *bytes), shape).map_err(|reason| Cause::ExecValue {
        program: argv.first().cloned().unwrap_or_default(),
        reason,
    })
}

/// Runs `argv`, tells it `input`, and returns what it prints.
///
/// There is no shell. What it writes to standard error goes nowhere: it may hold the
/// value. When its time is up, or nobody waits any more, its whole process group is killed.
///
/// # Errors
/// When it cannot be started, fails, takes too long or prints too much.
pub(super) async fn answer(
    argv: &[String],
    timeout: Duration,
    input: Option<&[u8]>,
    around: Around,
) -> Result<Zeroizing<Vec<u8>>, Cause> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Cause::Unknown);
    };
    let name = || program.clone();
    let mut command = Command::new(program);
    around.put_on(&mut command);
    let mut child = command
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Cause::ExecStart {
            program: name(),
            reason: error.to_string(),
        })?;
    // Declared after the child, so dropped before it: until the child is waited for, its process
    // id, and so its group's, cannot pass to a stranger.
    let group = Group::of(&child);
    let output = tokio::time::timeout(timeout, output(&mut child, input)).await;
    let (bytes, status) = output
        .map_err(|_| Cause::ExecTimeout {
            program: name(),
            after: timeout,
        })?
        .map_err(|error| Cause::ExecFailed {
            program: name(),
            status: error.to_string(),
        })?;
    let Some(status) = status else {
        return Err(Cause::ExecLong { program: name() });
    };
    group.spare();
    if !status.success() {
        return Err(Cause::ExecFailed {
            program: name(),
            status: status.to_string(),
        });
    }
    Ok(bytes)
}

/// What it printed, and how it ended; no status when it printed too much.
async fn output(child: &mut Child, input: Option<&[u8]>) -> std::io::Result<(Zeroizing<Vec<u8>>, Option<ExitStatus>)> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let tell = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // It need not listen.
            let _ = stdin.write_all(input).await;
        }
    };
    let hear = async {
        match stdout {
            Some(stdout) => stdout.take(LONGEST as u64 + 1).read_to_end(&mut bytes).await.map(drop),
            None => Ok(()),
        }
    };
    // At one time: a pipe holds only so much either way. What it prints ends it, heard or not.
    let heard = {
        let mut hear = std::pin::pin!(hear);
        tokio::select! {
            heard = &mut hear => heard,
            () = tell => hear.await,
        }
    };
    heard?;
    if bytes.len() > LONGEST {
        return Ok((bytes, None));
    }
    let status = child.wait().await?;
    Ok((bytes, Some(status)))
}

/// A process group that dies with this.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Lets it live: what a program leaves running when it ends well, such as an agent that keeps
    /// a session, is its own affair.
    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone already, which is what was wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
