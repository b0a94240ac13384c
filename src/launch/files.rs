//! The files of one run: roots, and settings of clients that no variable reaches.

use super::environment::{BUNDLE, EXTRA, Given, Vars, no_proxy, path_in};
use super::{Error, node};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where the run's files are. All of them are public, but for the proxy's token, if it has one.
#[derive(Debug)]
pub(super) struct Files {
    /// Our CA alone.
    pub(super) ca: PathBuf,
    /// All roots.
    pub(super) bundle: PathBuf,
    /// All roots for Java.
    pub(super) truststore: PathBuf,
    /// The preload of Node.
    pub(super) preload: PathBuf,
    /// wget's settings.
    pub(super) wgetrc: PathBuf,
    /// apt's settings.
    pub(super) apt_conf: PathBuf,
}

impl Files {
    /// Writes them all. `roots` are the caller's own, added to the bundle.
    pub(super) fn write(vars: &Vars, roots: &[Vec<u8>], given: &Given) -> Result<Self, Error> {
        let dir = plain(&given.dir)?;
        make(&given.dir)?;
        let at = |name: &str| given.dir.join(name);
        let files = Self {
            ca: at("ca.pem"),
            bundle: at("bundle.pem"),
            truststore: at("truststore.p12"),
            preload: at("node-preload.cjs"),
            wgetrc: at("wgetrc"),
            apt_conf: at("apt.conf"),
        };
        let mut bundle = read(&given.bundle_pem)?;
        for more in roots {
            bundle.push(b'\n');
            bundle.extend_from_slice(more);
        }
        put(&files.bundle, &bundle, PUBLIC)?;
        put(&files.ca, &read(&given.ca_pem)?, PUBLIC)?;
        put(&files.truststore, &read(&given.truststore_p12)?, PUBLIC)?;
        put(&files.preload, node::PRELOAD.as_bytes(), PUBLIC)?;
        put(&files.wgetrc, &wgetrc(vars, given, dir), PRIVATE)?;
        put(&files.apt_conf, apt_conf(vars, given, dir).as_bytes(), PRIVATE)?;
        Ok(files)
    }
}

/// The roots the caller has named to single clients: a tunnelled host may need them.
pub(super) fn caller_roots(vars: &Vars, given: &Given) -> Result<Vec<Vec<u8>>, Error> {
    let mut paths: Vec<&Path> = Vec::new();
    for name in BUNDLE.iter().chain(EXTRA) {
        // The bundle already has what `SSL_CERT_FILE` names.
        let path = path_in(vars, name).filter(|_| *name != "SSL_CERT_FILE");
        let fresh = |path: &&Path| !paths.contains(path) && *path != given.bundle_pem && path.is_file();
        paths.extend(path.filter(fresh));
    }
    let same_as_system = path_in(vars, "SSL_CERT_FILE");
    paths.retain(|path| Some(*path) != same_as_system);
    paths.into_iter().map(read).collect()
}

/// The user's own wgetrc, less passwords, with the proxy and the roots after it: the last line wins.
fn wgetrc(vars: &Vars, given: &Given, dir: &str) -> Vec<u8> {
    let home = || path_in(vars, "HOME").map(|home| home.join(".wgetrc"));
    let own = path_in(vars, "WGETRC").map(Path::to_path_buf).or_else(home);
    let mut text = own.and_then(|path| fs::read(path).ok()).unwrap_or_default();
    text = text
        .split_inclusive(|b| *b == b'\n')
        .filter(|line| !gives_away(line))
        .flatten()
        .copied()
        .collect();
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    let (url, direct) = (given.proxy.url(), no_proxy(given));
    let ours = format!(
        "use_proxy = on\nhttp_proxy = {url}\nhttps_proxy = {url}\nno_proxy = {direct}\nca_certificate = {dir}/bundle.pem\n"
    );
    text.extend_from_slice(ours.as_bytes());
    text
}

/// Whether a line of a wgetrc holds a credential; names there ignore case, `-` and `_`.
fn gives_away(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line)
        .to_ascii_lowercase()
        .replace(['-', '_'], "");
    let name = line.trim_start().split(['=', ' ', '\t']).next().unwrap_or_default();
    name.ends_with("password") || name.ends_with("passwd") || name == "header" || name == "privatekey"
}

/// apt reads this before its own files, and puts a `Binary::` group over them at the end.
fn apt_conf(vars: &Vars, given: &Given, dir: &str) -> String {
    let mut text = String::new();
    if let Some(own) = path_in(vars, "APT_CONFIG")
        .and_then(Path::to_str)
        .filter(|own| !own.contains('"'))
    {
        text.push_str(&format!("#include \"{own}\";\n"));
    }
    let url = given.proxy.url();
    for group in ["", "Binary::apt::", "Binary::apt-get::"] {
        text.push_str(&format!("{group}Acquire::http::Proxy \"{url}\";\n"));
        text.push_str(&format!("{group}Acquire::https::Proxy \"{url}\";\n"));
        text.push_str(&format!("{group}Acquire::https::CAInfo \"{dir}/bundle.pem\";\n"));
    }
    text
}

/// The directory's name, if it needs no quoting beyond double quotes anywhere.
fn plain(dir: &Path) -> Result<&str, Error> {
    let odd = |c: char| c.is_control() || matches!(c, '"' | '\'' | '\\');
    let text = dir.to_str().filter(|text| dir.is_absolute() && !text.contains(odd));
    text.ok_or_else(|| Error::Directory(dir.to_path_buf()))
}

/// Others may pass through it but not list it: apt fetches as a user of its own, and must reach the
/// bundle.
fn make(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o711)))
        .map_err(|cause| cannot("cannot write", dir, cause))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|cause| cannot("cannot read", path, cause))
}

/// Writes a new file under that name; one that stands there already, perhaps as a link, is removed
/// rather than written through.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        match fs::remove_file(path) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    write().map_err(|cause| cannot("cannot write", path, cause))
}

fn cannot(what: &'static str, path: &Path, cause: io::Error) -> Error {
    Error::File {
        what,
        path: path.to_path_buf(),
        cause,
    }
}

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;
