//! Credential files in what a command is shown: found by name and by what is in them, so that a wall can cover them.
//!
//! The sweep follows no symbolic link: what a link leads to is covered where it lies, or does not exist inside. A second
//! name of the same file (a hard link) is covered as the first is.

use super::super::withheld;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A path that the command must not see, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is.
    pub why: &'static str,
    /// A directory, seen as empty; else a file, seen as empty.
    pub dir: bool,
}

/// Why a directory cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read, so what lies in it is not known.
    #[error("cannot look for credentials in {}: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// There is more in it than is looked through.
    #[error("{} holds more than {MOST} files, too many to look through for credentials; share a smaller directory", .0.display())]
    TooMany(PathBuf),
}

/// Directory entries that one sweep looks at.
const MOST: usize = 2_000_000;
/// Bytes of a file that are read to see what it is.
const LOOK: u64 = 64 * 1024;

/// Everything under `roots` that looks like a credential, but what lies at or under one of `unmask`.
///
/// # Errors
/// When a directory cannot be read, or there is too much to look through: then nothing is known to be safe.
pub fn sweep(roots: &[PathBuf], unmask: &[PathBuf]) -> Result<Vec<Masked>, Error> {
    let mut sweep = Sweep {
        unmask,
        masked: Vec::new(),
        linked: HashMap::new(),
        seen: 0,
    };
    for root in roots {
        sweep.root(root)?;
    }
    Ok(sweep.finish())
}

struct Sweep<'u> {
    unmask: &'u [PathBuf],
    masked: Vec<Masked>,
    /// Files with several names, by device and inode.
    linked: HashMap<(u64, u64), Linked>,
    seen: usize,
}

/// A file's names, and what one of them says that it is.
#[derive(Default)]
struct Linked {
    paths: Vec<PathBuf>,
    why: Option<&'static str>,
}

impl Sweep<'_> {
    fn root(&mut self, root: &Path) -> Result<(), Error> {
        let failed = |cause| Error::Unreadable {
            path: root.to_owned(),
            cause,
        };
        let meta = fs::metadata(root).map_err(failed)?;
        if meta.is_dir() {
            if let Some(why) = root.file_name().and_then(|name| directory(root, name)) {
                self.mask(root.to_owned(), why, true);
                return Ok(());
            }
            return self.directory(root);
        }
        self.file(root.to_owned(), &meta);
        Ok(())
    }

    fn directory(&mut self, root: &Path) -> Result<(), Error> {
        let mut left = vec![root.to_owned()];
        while let Some(dir) = left.pop() {
            let failed = |cause| Error::Unreadable {
                path: dir.clone(),
                cause,
            };
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                // Nobody inside will be able to read it either.
                Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => continue,
                Err(cause) => return Err(failed(cause)),
            };
            for entry in entries {
                self.seen += 1;
                if self.seen > MOST {
                    return Err(Error::TooMany(root.to_owned()));
                }
                if let Some(deeper) = self.entry(&entry.map_err(failed)?) {
                    left.push(deeper);
                }
            }
        }
        Ok(())
    }

    /// Judges one entry; a directory that is not masked is looked into.
    fn entry(&mut self, entry: &DirEntry) -> Option<PathBuf> {
        let path = entry.path();
        // Gone since, or a link: nothing to cover.
        let meta = entry.metadata().ok()?;
        if meta.is_dir() {
            let Some(why) = directory(&path, &entry.file_name()) else {
                return Some(path);
            };
            self.mask(path, why, true);
        } else if meta.is_file() {
            self.file(path, &meta);
        }
        None
    }

    fn file(&mut self, path: PathBuf, meta: &Metadata) {
        let why = path.file_name().and_then(|name| file(&path, name));
        if meta.nlink() > 1 {
            let known = self.linked.entry((meta.dev(), meta.ino())).or_default();
            known.why = known.why.or(why);
            known.paths.push(path);
        } else if let Some(why) = why {
            self.mask(path, why, false);
        }
    }

    fn mask(&mut self, path: PathBuf, why: &'static str, dir: bool) {
        if !self.unmask.iter().any(|spared| path.starts_with(spared)) {
            self.masked.push(Masked { path, why, dir });
        }
    }

    fn finish(mut self) -> Vec<Masked> {
        for Linked { paths, why } in std::mem::take(&mut self.linked).into_values() {
            let Some(why) = why else { continue };
            for path in paths {
                self.mask(path, why, false);
            }
        }
        self.masked.sort_by(|a, b| a.path.cmp(&b.path));
        self.masked
    }
}

/// What a directory of that name holds, if it is kept from commands.
fn directory(path: &Path, name: &OsStr) -> Option<&'static str> {
    let parent = || path.parent().and_then(Path::file_name);
    match name.to_str()? {
        ".aws" => Some("credentials of AWS"),
        ".azure" => Some("credentials of Azure"),
        ".kube" => Some("credentials of Kubernetes"),
        ".ssh" => Some("SSH keys"),
        ".gnupg" => Some("GnuPG keys"),
        "gcloud" if parent() == Some(OsStr::new(".config")) => Some("credentials of Google Cloud"),
        "gh" | "glab-cli" if parent() == Some(OsStr::new(".config")) => Some("credentials of a code host"),
        ".password-store" => Some("a password store"),
        "keyferry" if path.join("ca/ca-key.pem").exists() || path.join("secrets.age").exists() => {
            Some("Keyferry's own keys")
        }
        _ => None,
    }
}

/// What a file of that name holds, if it is kept from commands.
fn file(path: &Path, name: &OsStr) -> Option<&'static str> {
    let name = name.to_string_lossy().to_ascii_lowercase();
    let parent = || path.parent().and_then(Path::file_name);
    match name.as_str() {
        ".env" | ".envrc" => return Some("variables with credentials"),
        ".git-credentials" => return Some("passwords of git"),
        ".npmrc" | ".yarnrc.yml" | ".pypirc" => return Some("the token of a registry").filter(|_| tells(path)),
        ".netrc" | "_netrc" | ".pgpass" | ".my.cnf" => return Some("passwords"),
        "config.json" if parent() == Some(OsStr::new(".docker")) => return Some("credentials of registries"),
        "credentials" | "credentials.toml" if parent() == Some(OsStr::new(".cargo")) => {
            return Some("the token of a registry");
        }
        _ => {}
    }
    if let Some(kind) = name.strip_prefix(".env.") {
        let sample = ["example", "sample", "template", "dist", "schema"]
            .iter()
            .any(|word| kind.ends_with(word));
        return Some("variables with credentials").filter(|_| !sample || tells(path));
    }
    if name.ends_with("service-account.json") || name.ends_with("serviceaccount.json") {
        return Some("the key of a service account");
    }
    let key = name.ends_with(".pem") || name.ends_with(".key") || name.ends_with(".p8") || name.starts_with("id_");
    let bundle = [".p12", ".pfx", ".jks", ".keystore", ".kdbx"]
        .iter()
        .any(|end| name.ends_with(end));
    if key && is_a_key(path) {
        return Some("a private key");
    }
    bundle.then_some("a key store")
}

/// Whether a key file is more than public: certificates and public keys are for everybody.
fn is_a_key(path: &Path) -> bool {
    let Ok(start) = start_of(path) else { return true };
    let text = String::from_utf8_lossy(&start);
    let public = text.contains("-----BEGIN CERTIFICATE") || text.contains("PUBLIC KEY");
    let armoured = text.contains("-----BEGIN ");
    let source = path
        .extension()
        .is_some_and(|end| end != "pem" && end != "key" && end != "p8");
    if withheld::is_a_private_key(&text) || text.contains("PRIVATE KEY") {
        return true;
    }
    // `id_card.rs` is no key; `server.key` in DER has no armour.
    !(public || source || start.is_empty() || armoured)
}

/// Whether a file of settings holds a credential, or cannot be read.
fn tells(path: &Path) -> bool {
    let Ok(start) = start_of(path) else { return true };
    let text = String::from_utf8_lossy(&start);
    text.lines().any(|line| {
        let Some((name, value)) = line.split_once(['=', ':']) else {
            return false;
        };
        let name = name.trim().trim_start_matches("export ").trim_matches(['"', '\'']);
        // A registry's address stands before the name of the setting.
        let name = name.rsplit(['/', ':']).next().unwrap_or(name);
        let value = value.rsplit_once('=').map_or(value, |(_, last)| last);
        let value = value.trim().trim_matches(['"', '\'']);
        let blank = value.starts_with(['<', '$', '{']) || value.eq_ignore_ascii_case("changeme");
        !blank && (withheld::looks_like_one(name, value) || name.to_ascii_lowercase().contains("authtoken"))
    })
}

fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(LOOK).read_to_end(&mut start)?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pem(kind: &str) -> String {
        format!("-----BEGIN {kind}-----\nMIIB\n-----END {kind}-----\n")
    }

    #[test]
    fn credential_files_are_found_by_name_and_by_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let private = pem("PRIVATE KEY");
        let certificate = pem("CERTIFICATE");
        for (path, text, masked) in [
            (".env", "A=1", true),
            (".env.production", "A=1", true),
            (".env.example", "API_KEY=<yours>", false),
            (".env.sample", "API_KEY=sk-live-0123456789abcdef0123", true),
            ("sub/deep/.env", "", true),
            (".git-credentials", "https://a:b@c", true),
            (".aws/credentials", "x", true),
            ("home/.config/gcloud/a.json", "x", true),
            ("gcloud/main.py", "x", false),
            (".kube/config", "x", true),
            (".docker/config.json", "{}", true),
            ("config.json", "{}", false),
            (
                ".npmrc",
                "//registry.example/:_authToken=npm_0123456789abcdef0123",
                true,
            ),
            ("web/.npmrc", "save-exact=true", false),
            (".pypirc", "password = pypi-0123456789abcdef0123", true),
            (".netrc", "machine a password b", true),
            (".ssh/id_ed25519", &private, true),
            ("keys/id_rsa", &private, true),
            ("keys/id_rsa.pub", "ssh-rsa AAAA me", false),
            ("src/id_card.rs", "fn main() {}", false),
            ("prod-service-account.json", "{}", true),
            ("tls/server.key", &private, true),
            ("tls/der.key", "\u{1}\u{2}binary", true),
            ("tls/server.pem", &format!("{certificate}{private}"), true),
            ("tls/ca.pem", &certificate, false),
            ("README.md", "no secrets", false),
        ] {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            let found = sweep(&[dir.path().to_owned()], &[]).unwrap();
            let hidden = found.iter().any(|one| file.starts_with(&one.path));
            assert_eq!(hidden, masked, "{path}");
        }
    }

    #[test]
    fn a_second_name_of_a_masked_file_is_masked_and_what_is_unmasked_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at(".env"), "A=1").unwrap();
        fs::hard_link(at(".env"), at("notes.txt")).unwrap();
        fs::create_dir(at(".aws")).unwrap();
        std::os::unix::fs::symlink(at(".env"), at("link")).unwrap();
        let paths = |unmask: &[PathBuf]| -> Vec<_> {
            let found = sweep(&[dir.path().to_owned()], unmask).unwrap();
            found.into_iter().map(|one| one.path).collect()
        };
        assert_eq!(paths(&[]), [at(".aws"), at(".env"), at("notes.txt")]);
        assert_eq!(paths(&[at(".aws"), at(".env")]), [at("notes.txt")]);
        assert_eq!(paths(&[dir.path().to_owned()]), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_directory_that_is_not_there_is_no_empty_one() {
        assert!(sweep(&["/nowhere/at/all".into()], &[]).is_err());
    }
}
