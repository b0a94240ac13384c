//! Proxies that other people wrote, as parents.

use crate::rig::proxy::bare;
use crate::rig::root::{Root, Validity};
use crate::rig::{eventually, tools};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What a parent wants to be shown.
pub const LOGIN: &str = "ann:Pa55-of-the-parent";

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Squid,
    SquidTls,
    Tinyproxy,
    Microsocks,
}

/// A running parent. It ends when it is dropped.
pub struct Parent {
    child: Child,
    pub dir: TempDir,
    /// As `upstream.parent` has it.
    pub url: String,
}

const SQUID: &str = "LISTEN
pid_filename none
pinger_enable off
cache deny all
cache_mem 8 MB
max_filedescriptors 1024
access_log stdio:DIR/access.log
cache_log DIR/cache.log
coredump_dir DIR
hosts_file DIR/hosts
shutdown_lifetime 0 seconds
acl refused dstdomain refused.test
http_access deny refused
ACCESS
http_access deny all
";
const SQUID_LOGIN: &str = "auth_param basic program /usr/lib/squid/basic_ncsa_auth DIR/users
acl known proxy_auth REQUIRED
http_access allow known";

impl Parent {
    /// Starts one; with `login`, it lets nobody pass without [`LOGIN`].
    pub async fn start(kind: Kind, root: &Root, login: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("keyferry-parent-").tempdir().unwrap();
        // Started as root, Squid becomes another user.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = match kind {
            Kind::Squid | Kind::SquidTls => squid(kind, root, dir.path(), address, login),
            Kind::Tinyproxy => tinyproxy(dir.path(), address, login),
            Kind::Microsocks => microsocks(address, login),
        };
        bare(&mut command, dir.path());
        let log = std::fs::File::create(dir.path().join("output")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let scheme = match kind {
            Kind::Squid | Kind::Tinyproxy => "http",
            Kind::SquidTls => "https",
            Kind::Microsocks => "socks5",
        };
        let mut parent = Self {
            child,
            url: format!("{scheme}://{address}"),
            dir,
        };
        eventually("a parent proxy", || {
            if let Some(status) = parent.child.try_wait().unwrap() {
                panic!("{kind:?} ended with {status}:\n{}", parent.log());
            }
            TcpStream::connect(address).ok()
        })
        .await;
        parent
    }

    /// All it has written down.
    pub fn log(&self) -> String {
        ["output", "access.log", "cache.log"]
            .map(|name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default())
            .concat()
    }

    /// Ends it.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // Asked first: Squid's helpers end with it only then.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn squid(kind: Kind, root: &Root, dir: &Path, address: SocketAddr, login: bool) -> Command {
    let listen = if kind == Kind::SquidTls {
        let pem = root.leaf(&["127.0.0.1"], Validity::Now);
        std::fs::write(dir.join("both.pem"), format!("{}{}", pem.chain, pem.key)).unwrap();
        format!("https_port {address} tls-cert=DIR/both.pem")
    } else {
        format!("http_port {address}")
    };
    if login {
        let (user, password) = LOGIN.split_once(':').unwrap();
        let hash = Command::new(tools::need("openssl"))
            .args(["passwd", "-apr1", password])
            .output()
            .unwrap();
        let hash = String::from_utf8(hash.stdout).unwrap();
        std::fs::write(dir.join("users"), format!("{user}:{hash}")).unwrap();
    }
    std::fs::write(dir.join("hosts"), "127.0.0.1 only-there.test refused.test\n").unwrap();
    let access = if login { SQUID_LOGIN } else { "http_access allow all" };
    let config = SQUID
        .replace("LISTEN", &listen)
        .replace("ACCESS", access)
        .replace("DIR", dir.to_str().unwrap());
    std::fs::write(dir.join("squid.conf"), config).unwrap();
    let mut command = Command::new(tools::need("squid"));
    command.args(["-N", "-f"]).arg(dir.join("squid.conf"));
    command
}

fn tinyproxy(dir: &Path, address: SocketAddr, login: bool) -> Command {
    let (user, password) = LOGIN.split_once(':').unwrap();
    let mut config = format!(
        "Listen {}\nPort {}\nTimeout 60\nMaxClients 64\n",
        address.ip(),
        address.port()
    );
    if login {
        config += &format!("BasicAuth {user} {password}\n");
    }
    std::fs::write(dir.join("tinyproxy.conf"), config).unwrap();
    let mut command = Command::new(tools::need("tinyproxy"));
    command.arg("-d").arg("-c").arg(dir.join("tinyproxy.conf"));
    command
}

fn microsocks(address: SocketAddr, login: bool) -> Command {
    let (user, password) = LOGIN.split_once(':').unwrap();
    let mut command = Command::new(tools::need("microsocks"));
    command.args(["-i", &address.ip().to_string(), "-p", &address.port().to_string()]);
    if login {
        command.args(["-u", user, "-P", password]);
    }
    command
}
