//! nginx, which shares no code with the proxy or the rig.

use super::proxy::bare;
use super::{eventually, tools};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // The workers end with the master only if it is asked.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

const FRAME: &str = "daemon off; master_process on; worker_processes 1; pid DIR/nginx.pid; error_log DIR/error.log;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3;
  uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5; default_type text/plain;
";

impl Nginx {
    /// Serves what `http` says, in which `DIR` is `dir` and `ADDRESS` where it listens.
    pub async fn start(dir: &Path, http: &str) -> (Self, SocketAddr) {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Started as root it would give its workers to a user who cannot read the folder.
        let user = if rustix::process::geteuid().is_root() {
            "user root;\n"
        } else {
            ""
        };
        let config = format!("{user}{FRAME}{http}\n}}\n")
            .replace("DIR", dir.to_str().unwrap())
            .replace("ADDRESS", &address.to_string());
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(tools::need("nginx"));
        bare(&mut command, dir);
        command.arg("-p").arg(dir).arg("-c").arg(file);
        command.arg("-e").arg(dir.join("error.log")).stderr(Stdio::null());
        let nginx = Self(command.spawn().unwrap());
        eventually("nginx", || TcpStream::connect(address).ok()).await;
        (nginx, address)
    }
}
