//! The kernel of a machine, and the modules of it that a machine needs.

use super::{Error, failed};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel's module, as the kernel loads it.
#[derive(Debug)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The object file.
    pub bytes: Vec<u8>,
}

/// What a machine cannot do without.
const VSOCK: &[&str] = &["vmw_vsock_virtio_transport"];
/// And one that has files from outside.
const FILES: &[&str] = &["9p", "9pnet_virtio"];

/// The one that is named, or this machine's own.
///
/// # Errors
/// When there is none that may be read.
pub fn find(explicit: Option<&Path>) -> Result<PathBuf, Error> {
    let image = match explicit {
        Some(path) => path.to_owned(),
        None => own().ok_or_else(|| {
            failed(
                "there is no kernel in /boot; install one (`linux-image-amd64` on Debian), or name one with `--kernel`",
            )
        })?,
    };
    let open = fs::File::open(&image);
    open.map_err(|error| {
        let told = format!("cannot read the kernel {}: {error}", image.display());
        failed(match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("{told}; copy it to a file of yours, and name that with `--kernel`")
            }
            _ => told,
        })
    })?;
    image
        .canonicalize()
        .map_err(|error| failed(format!("{}: {error}", image.display())))
}

/// That which runs now, or else the newest.
fn own() -> Option<PathBuf> {
    let running = rustix::system::uname().release().to_string_lossy().into_owned();
    let running = Path::new("/boot").join(format!("vmlinuz-{running}"));
    if running.exists() {
        return Some(running);
    }
    let all = fs::read_dir("/boot").ok()?.flatten();
    let kernels = all.filter(|one| one.file_name().to_string_lossy().starts_with("vmlinuz-"));
    let newest = kernels.max_by_key(|one| one.metadata().and_then(|meta| meta.modified()).ok())?;
    Some(newest.path())
}

/// The modules that a machine with this kernel loads, each after those it depends on. `transport` brings its devices; with
/// `files` it has some from outside.
///
/// # Errors
/// When the kernel lacks one, or a file cannot be read.
pub fn modules(image: &Path, transport: &str, files: bool) -> Result<Vec<Module>, Error> {
    let tree = Tree::of(image)?;
    let mut loaded = Vec::new();
    let files = if files { FILES } else { &[] };
    for name in [transport].iter().chain(VSOCK).chain(files) {
        tree.load(name, &mut loaded)?;
    }
    Ok(loaded)
}

/// Whether a kernel has modules of its own somewhere; one without has built in what it needs.
pub(super) fn has_modules(image: &Path) -> bool {
    Tree::of(image).is_ok()
}

/// Where a kernel's modules lie, by name.
struct Tree {
    dir: PathBuf,
    files: HashMap<String, PathBuf>,
    built_in: String,
}

impl Tree {
    fn of(image: &Path) -> Result<Self, Error> {
        let version = image
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("vmlinu"))
            .and_then(|rest| rest.strip_prefix(['z', 'x'])?.strip_prefix('-'));
        // Unpacked somewhere, a kernel has its modules beside it; some systems keep the two in one directory.
        let beside = image.parent().and_then(Path::parent);
        let mut places: Vec<PathBuf> = Vec::new();
        if let Some(version) = version {
            let roots = beside.into_iter().chain([Path::new("/"), Path::new("/usr")]);
            places.extend(roots.map(|root| root.join("lib/modules").join(version)));
        }
        places.extend(image.parent().map(Path::to_owned));
        let dir = places.into_iter().find(|dir| dir.join("kernel").is_dir()).ok_or_else(|| {
            failed(format!(
                "the modules of the kernel {} are not in /lib/modules; name a kernel that has its own with `--kernel`",
                image.display()
            ))
        })?;
        let mut files = HashMap::new();
        let mut left = vec![dir.join("kernel")];
        while let Some(next) = left.pop() {
            for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(path);
                } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
                    files.insert(name.replace('-', "_"), path);
                }
            }
        }
        let built_in = fs::read_to_string(dir.join("modules.builtin")).unwrap_or_default();
        Ok(Self { dir, files, built_in })
    }

    /// Adds a module, and before it what it depends on.
    fn load(&self, name: &str, loaded: &mut Vec<Module>) -> Result<(), Error> {
        let known = loaded.iter().any(|module| module.name == name);
        if known || self.is_built_in(name) {
            return Ok(());
        }
        let path = self.files.get(name).ok_or_else(|| {
            failed(format!(
                "the kernel of {} has no module `{name}`; kernels for clouds lack some: take another with \
                 `--kernel`, or one copy of the files with `--pack`",
                self.dir.display()
            ))
        })?;
        let bytes = unpacked(path).map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?;
        for needed in depends(&bytes) {
            self.load(&needed, loaded)?;
        }
        loaded.push(Module {
            name: name.to_owned(),
            bytes,
        });
        Ok(())
    }

    fn is_built_in(&self, name: &str) -> bool {
        let files = self.built_in.lines().filter_map(|line| line.rsplit('/').next());
        files
            .filter_map(|file| file.strip_suffix(".ko"))
            .any(|one| one.replace('-', "_") == name)
    }
}

/// What a module says that it depends on, among the strings about it.
fn depends(module: &[u8]) -> Vec<String> {
    const SAID: &[u8] = b"\0depends=";
    let Some(at) = memchr::memmem::find(module, SAID) else {
        return Vec::new();
    };
    let rest = module.get(at + SAID.len()..).unwrap_or_default();
    let said = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(said);
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

/// The object file, whatever it is compressed with.
fn unpacked(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match path.extension().and_then(|end| end.to_str()) {
        Some("gz") => {
            flate2::read::GzDecoder::new(fs::File::open(path)?).read_to_end(&mut bytes)?;
        }
        Some("zst") => {
            zstd::stream::read::Decoder::new(fs::File::open(path)?)?.read_to_end(&mut bytes)?;
        }
        Some("xz") => {
            let output = Command::new("xz").arg("-dc").arg(path).output()?;
            if !output.status.success() {
                return Err(io::Error::other("xz cannot unpack it"));
            }
            bytes = output.stdout;
        }
        _ => bytes = fs::read(path)?,
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn module(depends: &str) -> Vec<u8> {
        format!("\u{7f}ELF..\0license=GPL\0depends={depends}\0name=x\0").into_bytes()
    }

    #[test]
    fn modules_come_after_what_they_depend_on_and_compressed_ones_are_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        fs::write(at("boot/vmlinuz-6.1"), "").unwrap();
        let put =
            |name: &str, needs: &str| fs::write(at(&format!("lib/modules/6.1/kernel/x/{name}.ko")), module(needs));
        put("virtio_pci", "virtio,virtio-ring").unwrap();
        put("virtio", "").unwrap();
        put("virtio-ring", "").unwrap();
        put("9pnet_virtio", "9pnet,virtio").unwrap();
        put("9p", "9pnet").unwrap();
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(&module("")).unwrap();
        fs::write(at("lib/modules/6.1/kernel/x/9pnet.ko.gz"), zipped.finish().unwrap()).unwrap();
        fs::write(
            at("lib/modules/6.1/modules.builtin"),
            "kernel/net/vmw_vsock_virtio_transport.ko\n",
        )
        .unwrap();
        let image = dir.path().join("boot/vmlinuz-6.1");
        let names: Vec<_> = modules(&image, "virtio_pci", true)
            .unwrap()
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(
            names,
            ["virtio", "virtio_ring", "virtio_pci", "9pnet", "9p", "9pnet_virtio"]
        );
        let error = modules(&image, "virtio_mmio", false).unwrap_err().to_string();
        assert!(
            error.contains("no module `virtio_mmio`") && error.contains("--kernel"),
            "{error}"
        );
        let error = find(Some(Path::new("/nowhere/vmlinuz"))).unwrap_err().to_string();
        assert!(error.contains("cannot read the kernel /nowhere/vmlinuz"), "{error}");
    }
}
