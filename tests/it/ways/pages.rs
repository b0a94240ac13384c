//! The commands on a page of `docs/`, run as they stand there.

use crate::rig::proxy::{Proxy, bare};
use crate::rig::tools;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The first line of the page's first `yaml` block that starts so.
pub fn line(page: &str, start: &str) -> String {
    let config = blocks(page, "yaml").remove(0);
    let line = config.lines().find(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("docs/{page} has no `{start}`"))
        .to_owned()
}

/// The one entry of the page's list under that key.
pub fn entry(page: &str, key: &str) -> String {
    let line = line(page, &format!("{key}: ["));
    line[key.len() + 3..].trim_end_matches(']').to_owned()
}

/// The first block of that kind.
pub fn block(page: &str, kind: &str) -> String {
    blocks(page, kind).remove(0)
}

/// Runs every `$` line of the page's `console` blocks in a shell beside `proxy`, each text of `swapped` put in the
/// place of another. What each printed.
pub async fn run(page: &str, proxy: &Proxy, swapped: &[(&str, &str)], env: &[(&str, &str)]) -> Vec<String> {
    let dir = proxy.rig.dir();
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let _ = std::os::unix::fs::symlink(tools::KEYFERRY, bin.join("keyferry"));
    let mut printed = Vec::new();
    for block in blocks(page, "console") {
        for line in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let line = swapped
                .iter()
                .fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
            let mut command = Command::new("/bin/sh");
            bare(&mut command, &dir.join("home"));
            command
                .env("PATH", format!("{}:{}", bin.display(), tools::path()))
                .envs(env.iter().copied())
                .args(["-c", &line])
                .current_dir(dir);
            let output = tokio::process::Command::from(command).output().await.unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "docs/{page}: `{line}` failed: {told}");
            printed.push(String::from_utf8_lossy(&output.stdout).into_owned());
        }
    }
    assert!(!printed.is_empty(), "docs/{page} has no command");
    printed
}

fn blocks(page: &str, kind: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let fence = format!("```{kind}\n");
    let starts = text.split(&fence).skip(1);
    starts
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}
