//! A real PostgreSQL, in a folder of the test's, that lets in who shows a password.

use super::proxy::{bare, ended};
use super::running::Running;
use super::{eventually, tools};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What its superuser, `postgres`, shows.
pub const PASSWORD: &str = "of-the-database-0123456789";

/// One that is ended with the test.
pub struct Postgres {
    pub port: u16,
    _running: Running,
}

impl Postgres {
    /// Starts one below `dir`, which others may then enter: it refuses to run as root.
    pub async fn start(dir: &Path) -> Self {
        let place = dir.join("postgres");
        std::fs::create_dir(&place).unwrap();
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(place.join("password"), PASSWORD).unwrap();
        if std::fs::metadata(&place).unwrap().uid() == 0 {
            for path in [&place, &place.join("password")] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let run = |name: &str| {
            let mut command = match std::fs::metadata(dir).unwrap().uid() {
                0 => {
                    let mut command = Command::new(tools::need("setpriv"));
                    let id = NOBODY.to_string();
                    command.args([&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]);
                    command.arg(program(name));
                    command
                }
                _ => Command::new(program(name)),
            };
            bare(&mut command, &place);
            command.current_dir(&place);
            command
        };
        let mut made = run("initdb");
        made.args([
            "-D",
            "data",
            "-U",
            "postgres",
            "--pwfile=password",
            "--auth=scram-sha-256",
            "-N",
        ]);
        let (well, said) = ended(made).await;
        assert!(well, "{said}");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = run("postgres");
        server.args(["-D", "data", "-k", "", "-h", "127.0.0.1", "-p", &port.to_string()]);
        let running = Running::start(server);
        eventually("PostgreSQL's start", || {
            lets_in(port, "postgres", PASSWORD).then_some(())
        })
        .await;
        Self {
            port,
            _running: running,
        }
    }

    /// Whether a user is let in with a password.
    pub fn lets_in(&self, user: &str, password: &str) -> bool {
        lets_in(self.port, user, password)
    }
}

fn lets_in(port: u16, user: &str, password: &str) -> bool {
    let mut psql = Command::new(program("psql"));
    psql.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-U",
        user,
        "-d",
        "postgres",
        "-c",
        "select 1",
    ]);
    psql.env_clear()
        .env("PGPASSWORD", password)
        .output()
        .unwrap()
        .status
        .success()
}

/// Debian keeps each version in a folder of its own.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let found = versions.filter_map(|version| Some(version.ok()?.path().join("bin").join(name)));
    found.filter(|path| path.is_file()).max().unwrap_or_else(|| {
        panic!("PostgreSQL's `{name}` is not installed; run scripts/test once, it installs what the tests need")
    })
}

const NOBODY: u32 = 65534;
