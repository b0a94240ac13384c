//! The commands of the pages under `docs/`, run as they stand there.

use crate::rig::proxy::Rig;
use crate::rig::tools;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The first block of a page in this language.
pub fn block(page: &str, language: &str) -> String {
    blocks(page, language).remove(0)
}

/// The blocks of a page in this language.
///
/// # Panics
/// When there is none.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).unwrap();
    let fence = format!("\n```{language}\n");
    let blocks = text.split(&fence).skip(1);
    let blocks: Vec<_> = blocks
        .map(|rest| rest.split("\n```").next().unwrap().to_owned())
        .collect();
    assert!(!blocks.is_empty(), "docs/{page} has no {language} block");
    blocks
}

/// A page's config with a listener on a free port, also returned, and with `host` at `address` below the rig's root.
pub fn served(rig: &Rig, page: &str, host: &str, address: SocketAddr) -> (String, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let config = format!(
        "listen: [{listen}]\nupstream:\n  roots: [{}]\n  resolve: {{ {host}: \"{address}\" }}\n  \
         allow_networks: [127.0.0.0/8]\n{}",
        rig.dir().join("root.pem").display(),
        block(page, "yaml")
    );
    (config, listen)
}

/// Runs a page's commands in the rig's folder, after `changes` for the addresses of the test, with the
/// config as the page has it.
///
/// # Panics
/// When a change changes nothing, or a command fails.
pub async fn run(rig: &Rig, page: &str, config: &str, changes: &[(&str, &str)]) -> Output {
    let mut script = block(page, "sh");
    for (from, to) in changes {
        assert!(script.contains(from), "docs/{page} does not say {from}");
        script = script.replace(from, to);
    }
    std::fs::write(rig.dir().join("keyferry.yaml"), config).unwrap();
    let bin = rig.dir().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let _ = std::os::unix::fs::symlink(tools::KEYFERRY, bin.join("keyferry"));
    let mut command = Command::new("/bin/bash");
    crate::rig::proxy::bare(&mut command, &rig.dir().join("home"));
    command
        .env("PATH", format!("{}:{}", bin.display(), tools::path()))
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(rig.dir())
        .stdin(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    let output = crate::rig::soon("a page's commands", command.kill_on_drop(true).output())
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "docs/{page}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
