//! A resolver of the test's own: a name server that does as it is told, and the way to have Keyferry ask it.

use super::tools;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;

/// What the name server does with a question.
#[derive(Clone, Copy, PartialEq)]
pub enum Says {
    /// 127.0.0.1, whatever the name.
    Loopback,
    /// This response code (RFC 1035 §4.1.1).
    Code(u8),
    /// Bytes that are no answer.
    Garbage,
    /// Nothing.
    Nothing,
}

/// A name server on port 53 of a loopback address that is its own.
pub struct Names {
    address: std::net::Ipv4Addr,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    /// Starts one. Names below `slow.test` it never answers for.
    pub async fn start(says: Says) -> Self {
        let id = std::process::id();
        let mut tries = 0..50_u8;
        let (address, socket) = loop {
            let at = tries.next().expect("no address of 127.83.0.0/16 has a free port 53");
            let address = std::net::Ipv4Addr::new(127, 83, (id % 251) as u8, 1 + at);
            match UdpSocket::bind((address, 53)).await {
                Ok(socket) => break (address, socket),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => panic!(
                    "no name server can be bound to {address}:53: {error}; run the tests as root, or with \
                    `sysctl net.ipv4.ip_unprivileged_port_start=53`"
                ),
            }
        };
        let says = Arc::new(Mutex::new(says));
        let (now, asked) = (says.clone(), Arc::<Mutex<Vec<String>>>::default());
        let heard = asked.clone();
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                heard.lock().unwrap().extend(name(&question[..length]));
                let says = *now.lock().unwrap();
                if let Some(answer) = answer(&question[..length], says) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, says, asked }
    }

    /// The names it was asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// From now on it says something else.
    pub fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// The words that start a command whose resolver this is: with a file of its own for `/etc/resolv.conf`, in a mount
    /// namespace of its own.
    pub fn asked_by(&self, dir: &Path, options: &str) -> Vec<String> {
        let (servers, order) = (dir.join("resolv.conf"), dir.join("nsswitch.conf"));
        std::fs::write(&servers, format!("nameserver {}\noptions {options}\n", self.address)).unwrap();
        std::fs::write(&order, "hosts: files dns\n").unwrap();
        let script = format!(
            "mount --bind {} /etc/resolv.conf && {{ [ ! -e /etc/nsswitch.conf ] || mount --bind {} /etc/nsswitch.conf; }} \
            && exec \"$0\" \"$@\"",
            servers.display(),
            order.display()
        );
        let mut words = vec![tools::need("unshare").display().to_string()];
        if !rustix::process::geteuid().is_root() {
            words.push("--map-root-user".to_owned());
        }
        words.extend(["--mount", "--propagation", "private", "sh", "-c"].map(str::to_owned));
        words.push(script);
        words
    }
}

/// The name that is asked for, `.` after each label.
fn name(question: &[u8]) -> Option<String> {
    let (mut rest, mut name) = (question.get(12..)?, String::new());
    while let [length, after @ ..] = rest
        && *length > 0
    {
        let (label, more) = after.split_at_checked(usize::from(*length))?;
        name += &format!("{}.", String::from_utf8_lossy(label));
        rest = more;
    }
    Some(name)
}

/// The answer to a question, which is its own beginning (RFC 1035 §4.1).
fn answer(question: &[u8], says: Says) -> Option<Vec<u8>> {
    const A: [u8; 2] = [0, 1];
    let name = question.get(12..)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    let kind = name.get(end + 1..end + 3)?;
    let asked = question.get(..12 + end + 5)?;
    if name[..end].ends_with(b"\x04slow\x04test") {
        return None;
    }
    let (code, found) = match says {
        Says::Nothing => return None,
        Says::Garbage => return Some([&question[..2], &[0x81, 0x80], &[0xff; 40]].concat()),
        Says::Code(code) => (code, false),
        Says::Loopback => (0, kind == A),
    };
    let mut answer = asked.to_vec();
    // A response, recursion available; one question, perhaps one answer.
    answer[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    if found {
        // The name by a pointer to the question's, type A, class IN, no time to live.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
