//! Where the clients are, and the bare environment they start from.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The Keyferry under test.
pub const KEYFERRY: &str = env!("CARGO_BIN_EXE_keyferry");

/// What scripts/test installed for the tests alone.
pub fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools")
}

/// The search path clients get: no more than this, so that a preset of the machine cannot help.
pub fn path() -> String {
    let cargo = Path::new(env!("CARGO")).parent().unwrap();
    let python = installed().join("venv/bin");
    format!(
        "{}:{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        python.display(),
        cargo.display()
    )
}

/// Where a program is.
///
/// # Panics
/// When it is nowhere, with what to do about it. A missing client must not pass for a working one.
pub fn need(program: &str) -> PathBuf {
    path()
        .split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!("`{program}` is not installed; run scripts/test once, it installs what the tests need")
        })
}

/// A file of an installed npm package.
pub fn npm(file: &str) -> PathBuf {
    let path = installed().join("node/node_modules").join(file);
    assert!(
        path.exists(),
        "the npm package of `{file}` is not installed; run scripts/test once, it installs it"
    );
    path
}

/// A program of the tests' own python environment.
pub fn python() -> PathBuf {
    let path = installed().join("venv/bin/python");
    assert!(
        path.exists(),
        "the tests' python environment is missing; run scripts/test once, it makes it"
    );
    path
}

/// Where the static Keyferry is compiled, apart from all else.
pub fn static_target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/static")
}

/// The Keyferry under test as one static file, as it is shipped: it runs in any container, an empty one too.
///
/// scripts/test has compiled it already; otherwise this takes ten minutes, once.
///
/// # Panics
/// When it cannot be compiled, with what the compiler said.
pub fn static_keyferry() -> PathBuf {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let mut release = Command::new("scripts/release");
    release
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .env("PATH", path());
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        release.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    release.args(["--target", &triple, "--target-dir"]);
    let output = release.arg(static_target()).output().unwrap();
    assert!(
        output.status.success(),
        "no static keyferry; run scripts/test once, it installs what that needs:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}
