//! How many file descriptors there are, and so for how many connections they are enough.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but connections from agents and the upstream connections these need: listeners, logs, the
/// operator's connections, watches of files, programs of secrets.
const OTHERS: u64 = 64;

/// Lets this process open as many files as the system lets it raise the limit to. What it starts inherits that, so it is
/// not for `run`: a command may be older than such limits.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Refused, it stays as it was, and fewer connections are served.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Of so many `wanted` connections from agents, those that there are descriptors for: one for each, and one for its
/// upstream. More would be accepted only to find that nothing can be dialled for them.
pub fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(limit.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX);
    let room = room.max(1);
    if room < wanted {
        tracing::info!(
            "{limit} files may be open (`ulimit -n`, `LimitNOFILE`): {room} connections from agents are served at one \
            time, and not the {wanted} of `limits.connections`; those beyond wait"
        );
    }
    room.min(wanted)
}
