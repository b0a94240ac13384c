//! macOS' own sandbox, by `sandbox-exec`: printed for a Mac, where it holds the command to files that it is shown and to
//! the proxy's port. The agent's files are where they are, not a view of them, so what is not shown is seen to exist.

use super::super::Error;
use super::Plan;
use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// The command line, with the profile as one of its words.
///
/// # Errors
/// When a path is no UTF-8.
pub fn words(plan: &Plan) -> Result<Vec<OsString>, Error> {
    let mut words: Vec<OsString> = vec!["/usr/bin/sandbox-exec".into(), "-p".into(), profile(plan)?.into()];
    words.extend(plan.words.iter().cloned());
    Ok(words)
}

/// What every program needs of the system, and reads nobody's secrets by. The last rule that fits an act stands.
const SYSTEM: &str = r#"(version 1)
(deny default)
(allow process-exec process-fork)
(allow process-info* signal (target same-sandbox))
(allow sysctl-read ipc-posix-sem pseudo-tty)
; Names of users and groups, the time zone, the judgement of certificates, notices of the system.
(allow mach-lookup
  (global-name "com.apple.system.opendirectoryd.libinfo")
  (global-name "com.apple.system.opendirectoryd.membership")
  (global-name "com.apple.system.notification_center")
  (global-name "com.apple.trustd.agent"))
; Whether something is there and how large it is; programs look along the whole of a path.
(allow file-read-metadata)
(allow file-read*
  (literal "/")
  (subpath "/System") (subpath "/usr") (subpath "/bin") (subpath "/sbin") (subpath "/opt")
  (subpath "/Library") (subpath "/Applications") (subpath "/private/etc")
  (subpath "/private/var/db/timezone") (subpath "/private/var/db/dyld") (subpath "/private/var/select"))
(deny file-read* (subpath "/Library/Keychains") (subpath "/private/etc/ssh"))
(allow file-read* file-write* file-ioctl
  (literal "/dev/null") (literal "/dev/zero") (literal "/dev/random") (literal "/dev/urandom")
  (literal "/dev/tty") (literal "/dev/ptmx") (regex #"^/dev/ttys[0-9]+$"))
"#;

/// The profile, in Apple's language for these.
///
/// # Errors
/// When a path is no UTF-8.
pub fn profile(plan: &Plan) -> Result<String, Error> {
    let mut text = SYSTEM.to_owned();
    let mut rule = |what: &str, filter: &str, path: &Path| {
        let path = quoted(path)?;
        let _ = writeln!(text, "({what} ({filter} {path}))");
        Ok::<_, Error>(())
    };
    rule("allow file-read*", "subpath", &plan.dir)?;
    rule("allow file-read*", "literal", &plan.bundle)?;
    let shared = plan.shared();
    for one in &shared {
        rule("allow file-read*", "subpath", &one.path)?;
        let writes = if one.writable {
            "allow file-write*"
        } else {
            "deny file-write*"
        };
        rule(writes, "subpath", &one.path)?;
    }
    // Neither read nor replaced; and nothing above it moved, by which it would have a name that no rule has.
    for masked in &plan.masked {
        let filter = if masked.dir { "subpath" } else { "literal" };
        rule("deny file-read* file-write*", filter, &masked.path)?;
        let above = masked.path.ancestors().skip(1);
        for dir in above.take_while(|dir| shared.iter().any(|one| dir.starts_with(&one.path))) {
            rule("deny file-write-unlink", "literal", dir)?;
        }
    }
    for (address, _) in &plan.ways {
        let port = address
            .parse::<SocketAddr>()
            .map(|address| address.port())
            .unwrap_or_default();
        let _ = writeln!(text, "(allow network-outbound (remote ip \"localhost:{port}\"))");
    }
    Ok(text)
}

fn quoted(path: &Path) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| Error::Directory(path.to_owned()))?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests;
