//! What Keyferry is told by whoever started it as a service, what it tells them (sd_notify(3)), and the process that follows
//! it.

use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Set for a process whose standard input leads to the one before it.
const FOLLOWS: &str = "KEYFERRY_FOLLOWS";
/// What a service manager says to one process alone.
const FOR_ONE: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
/// Sockets that a service manager may pass.
const MOST_SOCKETS: usize = 256;

/// What the environment says of how this process was started.
#[derive(Debug)]
pub struct Service {
    /// Whom to tell.
    pub notify: Notify,
    /// The names of the sockets it was passed; one without a name is called `unknown`.
    pub sockets: Vec<String>,
    /// How often it is to say that it is well.
    pub watchdog: Option<Duration>,
    /// Whether it follows another process, which is at its standard input.
    pub follows: bool,
}

/// What a service manager said makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("the variable {name} is `{value}`, and not {want}; whoever starts Keyferry set it")]
pub struct Nonsense {
    name: &'static str,
    value: String,
    want: &'static str,
}

impl Service {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// When what it says cannot be.
    pub fn from_env() -> Result<Self, Nonsense> {
        let variables: HashMap<_, _> = std::env::vars_os().collect();
        Self::read(std::process::id(), |name| variables.get(OsStr::new(name)).cloned())
    }

    fn read(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Nonsense> {
        let number = |name: &'static str, want| match variable(name) {
            None => Ok(None),
            Some(value) => {
                let value = value.to_string_lossy().into_owned();
                value
                    .parse::<u64>()
                    .map(Some)
                    .map_err(|_| Nonsense { name, value, want })
            }
        };
        // Said to another process, it was inherited by mistake.
        let meant = |name, want| Ok(number(name, want)?.map(|meant| meant == u64::from(pid)));
        let sockets = if meant("LISTEN_PID", A_PROCESS)?.unwrap_or(false) {
            let count = number("LISTEN_FDS", "a number of sockets")?.unwrap_or(0);
            names(count, variable("LISTEN_FDNAMES"))?
        } else {
            Vec::new()
        };
        let watched = meant("WATCHDOG_PID", A_PROCESS)?.unwrap_or(true);
        let period = number("WATCHDOG_USEC", "a number of microseconds")?;
        Ok(Self {
            notify: Notify::to(variable("NOTIFY_SOCKET")),
            sockets,
            // Twice in the time, as sd_watchdog_enabled(3) recommends.
            watchdog: period
                .filter(|period| watched && *period > 0)
                .map(|period| Duration::from_micros(period) / 2),
            follows: variable(FOLLOWS).is_some(),
        })
    }
}

/// What is expected of a `…_PID`.
const A_PROCESS: &str = "the number of a process";

fn names(count: u64, names: Option<OsString>) -> Result<Vec<String>, Nonsense> {
    let count = usize::try_from(count).ok().filter(|count| *count <= MOST_SOCKETS);
    let Some(count) = count else {
        return Err(Nonsense {
            name: "LISTEN_FDS",
            value: "more".to_owned(),
            want: "at most 256",
        });
    };
    let Some(names) = names else {
        return Ok(vec!["unknown".to_owned(); count]);
    };
    let value = names.to_string_lossy().into_owned();
    let split: Vec<_> = value.split(':').map(str::to_owned).collect();
    match (count, split.len()) {
        (0, _) => Ok(Vec::new()),
        (count, names) if count == names => Ok(split),
        _ => Err(Nonsense {
            name: "LISTEN_FDNAMES",
            value,
            want: "a name for each socket of LISTEN_FDS",
        }),
    }
}

/// Tells the service manager how things are. Without one it tells nobody; and nothing ends because it cannot be told.
#[derive(Debug, Default)]
pub struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    fn to(place: Option<OsString>) -> Self {
        let socket = |place: OsString| {
            let address = match place.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&place),
            };
            match UnixDatagram::unbound().and_then(|socket| Ok((socket, address?))) {
                Ok(socket) => Some(socket),
                Err(error) => {
                    tracing::warn!("NOTIFY_SOCKET cannot be used, so nobody hears when Keyferry is ready: {error}");
                    None
                }
            }
        };
        Self(place.filter(|place| !place.is_empty()).and_then(socket))
    }

    /// It serves.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// It reads its config again; [`ready`](Self::ready) follows.
    pub fn reloading(&self) {
        // The time makes it unmistakable which reload this belongs to (`Type=notify-reload`).
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It takes no more connections, and ends once those it has are done.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// It is well.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// Another process takes its place.
    pub fn succeeded_by(&self, pid: u32) {
        self.say(&format!("MAINPID={pid}"));
    }

    fn say(&self, state: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::warn!("cannot tell the service manager `{state}`: {error}");
        }
    }
}

/// A process that is to take the place of this one. Dropped before it is [let go](Self::let_go), it ends.
#[derive(Debug)]
pub struct Successor(Option<Child>);

/// How long an end that was seen at its socket may take to be seen as the process' own.
const COLLECT: Duration = Duration::from_secs(2);

impl Successor {
    /// Starts this program again, from the file it was started from, with its arguments; `before` is what leads to this
    /// process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(before: OwnedFd) -> io::Result<Self> {
        // Not the file that runs: that one may have been replaced, and the new one is what is meant.
        let mut words = std::env::args_os();
        let program = words
            .next()
            .ok_or_else(|| io::Error::other("it is not known how this one was started"))?;
        let mut command = Command::new(program);
        command.args(words).env(FOLLOWS, "1").stdin(before);
        for name in FOR_ONE {
            command.env_remove(name);
        }
        Ok(Self(Some(command.spawn()?)))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Lets it live, and this process with it.
    pub fn let_go(mut self) {
        self.0 = None;
    }

    /// How it ended, if it does at once. Blocks for a moment.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.0.as_mut()?;
        let end = Instant::now() + COLLECT;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(pairs: &[(&str, &str)]) -> Result<Service, String> {
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name);
        let read = Service::read(7, |name| find(name).map(|(_, value)| value.into()));
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn sockets_are_for_the_process_that_is_named() {
        let sockets = |pairs: &[(&str, &str)]| told(pairs).unwrap().sockets;
        let named = [("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")];
        assert_eq!(sockets(&named), ["a", "b"]);
        assert_eq!(sockets(&[named[0], named[1]]), ["unknown", "unknown"]);
        assert_eq!(sockets(&[("LISTEN_PID", "8"), named[1], named[2]]), [""; 0]);
        assert_eq!(sockets(&named[1..]), [""; 0]);
        for (pairs, said) in [
            ([named[0], ("LISTEN_FDS", "x"), named[2]], "LISTEN_FDS is `x`"),
            ([named[0], ("LISTEN_FDS", "257"), named[2]], "at most 256"),
            ([named[0], named[1], ("LISTEN_FDNAMES", "a")], "a name for each socket"),
            ([("LISTEN_PID", "me"), named[1], named[2]], "LISTEN_PID is `me`"),
        ] {
            let error = told(&pairs).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_watchdog_is_told_twice_in_its_time_by_the_process_it_watches() {
        let watchdog = |pairs: &[(&str, &str)]| told(pairs).unwrap().watchdog;
        let usec = ("WATCHDOG_USEC", "3000000");
        assert_eq!(watchdog(&[usec]), Some(Duration::from_millis(1500)));
        assert_eq!(
            watchdog(&[usec, ("WATCHDOG_PID", "7")]),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(watchdog(&[usec, ("WATCHDOG_PID", "8")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "0")]), None);
    }
}
