//! Whose a container is: the process that started it, so that the next Keyferry can tell what a killed one left.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// One process of one machine, as no other ever is.
///
/// Its number is used again one day, so the time of its start stands beside it; and in another container, or on another
/// machine that shares a daemon, the number is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The machine's boot, and the space that numbers are of.
    space: String,
    pid: u32,
    started: u64,
}

impl Mark {
    /// That of this process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self {
            space: space(),
            pid,
            started: started(pid).unwrap_or_default(),
        }
    }

    /// A name for one container of this process.
    pub fn name(&self) -> String {
        format!("keyferry-{}-{}", self.pid, self.started)
    }

    /// Whether it is known that the process is no more: it was one of this machine's, and here it would be seen.
    pub fn is_gone(&self) -> bool {
        self.space == space() && started(self.pid) != Some(self.started)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.space, self.pid, self.started)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.rsplitn(3, '.');
        let mut number = || parts.next().ok_or(());
        let started = number()?.parse().map_err(|_| ())?;
        let pid = number()?.parse().map_err(|_| ())?;
        let space = number()?.to_owned();
        Ok(Self { space, pid, started })
    }
}

fn space() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let pids = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    format!("{}.{}", plain(&boot), plain(&pids.to_string_lossy()))
}

/// When a process began, in ticks since the boot (`starttime` of proc(5)).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The second field is the program's name, which may hold anything.
    let after = stat.rsplit_once(')')?.1;
    after.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_gone_when_its_number_is_somebody_elses() {
        let own = Mark::own();
        assert_eq!(own.to_string().parse(), Ok(own.clone()));
        assert!(!own.is_gone());
        let earlier = Mark {
            started: own.started - 1,
            ..own.clone()
        };
        assert!(earlier.is_gone());
        let elsewhere = Mark {
            space: "another.machine".into(),
            ..earlier
        };
        assert!(!elsewhere.is_gone(), "nothing is known of it here");
        assert_eq!("nonsense".parse::<Mark>(), Err(()));
    }
}
