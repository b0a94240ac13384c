//! gRPC's own C core, on both ends.

use super::REAL;
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::{Root, Validity};
use crate::rig::{eventually, tools};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

struct Server {
    address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
    child: Child,
}

impl Server {
    async fn start(root: &Root, dir: &Path) -> Self {
        let pem = root.leaf(&["grpc.test"], Validity::Now);
        std::fs::write(dir.join("chain.pem"), pem.chain).unwrap();
        std::fs::write(dir.join("key.pem"), pem.key).unwrap();
        std::fs::write(dir.join("server.py"), include_str!("scripts/grpc_server.py")).unwrap();
        let mut command = Command::new(tools::python());
        bare(&mut command, dir);
        command
            .current_dir(dir)
            .args(["server.py", "chain.pem", "key.pem", REAL]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let saying = said.clone();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .for_each(|l| saying.lock().unwrap().push(l))
        });
        let port = || said.lock().unwrap().first()?.strip_prefix("port ")?.parse::<u16>().ok();
        let port = eventually("the gRPC server's port", port).await;
        Self {
            address: ([127, 0, 0, 1], port).into(),
            said,
            child,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn every_kind_of_grpc_call_works_with_trailers_deadlines_and_cancellation() {
    let root = Root::new();
    let rig = Rig::new(&root).secret("API_KEY", REAL);
    let server = Server::start(&root, rig.dir()).await;
    let rig = rig
        .reach_as("grpc.test", server.address)
        .rule("host: grpc.test, inject: [{ bearer: api_key }]");
    std::fs::write(rig.dir().join("client.py"), include_str!("scripts/grpc_client.py")).unwrap();

    let ran = rig.run(&[tools::python().to_str().unwrap(), "client.py"]).await.ok();

    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "unary unary:a unary",
            "server-stream 0:b 1:b 2:b stream",
            "client-stream c,d,e",
            "both echo:f echo:g echo:h",
            "fails FAILED_PRECONDITION no: 100% \u{e9}",
            "deadline-seen True",
            "deadline DEADLINE_EXCEEDED",
            "first first",
            "cancel CANCELLED",
            "given first",
            "up CANCELLED",
            "after unary:after",
        ],
        "{}",
        ran.stderr
    );
    for call in ["ended deadline", "ended cancel"] {
        eventually(call, || {
            server
                .said
                .lock()
                .unwrap()
                .iter()
                .any(|line| line == call)
                .then_some(())
        })
        .await;
    }
}
