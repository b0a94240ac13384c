//! A network beyond the gateway: where an agent's packets come out when nothing stops them, with somebody who looks at
//! every one of them.

use super::netns::{Networks, ip, move_to};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The addresses of the machine out there.
pub const BEYOND: [&str; 2] = ["198.51.100.2", "2001:db8:51::2"];

/// The network beyond, and what was seen of it.
pub struct Uplink {
    name: String,
    seen: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
    watching: Option<JoinHandle<()>>,
}

impl Uplink {
    /// Joins one to the gateway, which then forwards.
    pub fn join(networks: &Networks) -> Self {
        let (gate, name) = (networks.gate(), format!("{}u", networks.gate()));
        ip(&format!("netns add {name}"));
        ip(&format!("link add vu netns {gate} type veth peer name vo netns {name}"));
        ip(&format!("-n {name} link set lo up"));
        for (at, line, v4, v6) in [
            (gate, "vu", "198.51.100.1", "2001:db8:51::1"),
            (name.as_str(), "vo", BEYOND[0], BEYOND[1]),
        ] {
            ip(&format!("-n {at} addr add {v4}/24 dev {line}"));
            ip(&format!("-n {at} addr add {v6}/64 dev {line} nodad"));
            ip(&format!("-n {at} link set {line} up"));
        }
        ip(&format!("-n {name} route add default via 198.51.100.1"));
        ip(&format!("-n {name} -6 route add default via 2001:db8:51::1"));
        ip(&format!("-n {gate} route add default via {}", BEYOND[0]));
        ip(&format!("-n {gate} -6 route add default via {}", BEYOND[1]));
        // Of the network that this thread is in, which is the gateway's.
        for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{family}"), "1").unwrap();
        }
        let (seen, stop) = (Arc::<Mutex<BTreeSet<String>>>::default(), Arc::<AtomicBool>::default());
        let (looked, stopped, at) = (seen.clone(), stop.clone(), name.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let watching = std::thread::spawn(move || {
            move_to(&at).unwrap();
            let mut line = every_frame();
            ready.send(()).unwrap();
            let mut frame = [0; 65536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(length) = line.read(&mut frame) else { continue };
                looked.lock().unwrap().extend(kind(&frame[..length]));
            }
        });
        is_ready.recv().unwrap();
        Self {
            name,
            seen,
            stop,
            watching: Some(watching),
        }
    }

    /// What was seen since it was last asked for, but for the talk of neighbours; once nothing has come for a while.
    pub async fn seen(&self) -> BTreeSet<String> {
        let mut before = usize::MAX;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let mut seen = self.seen.lock().unwrap();
            if seen.len() == before {
                return std::mem::take(&mut seen);
            }
            before = seen.len();
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.watching.take().unwrap().join();
        let _ = std::process::Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// A socket that gets every frame of this network (packet(7)).
fn every_frame() -> socket2::Socket {
    let all = i32::from(3_u16.to_be());
    let line = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, Some(all.into()));
    let line = line.unwrap();
    line.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    line
}

/// What a frame that went to the machine out there was, such as `udp4/443`.
fn kind(frame: &[u8]) -> Option<String> {
    let (version, protocol, to, rest): (_, _, IpAddr, _) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let packet = frame.get(14..)?;
            let head = usize::from(packet[0] & 15) * 4;
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            // More of them, or not the first: as in IPv6, where that has a header of its own.
            let is_fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
            (
                4,
                if is_fragment { 44 } else { packet[9] },
                Ipv4Addr::from(to).into(),
                packet.get(head..)?,
            )
        }
        [0x86, 0xdd] => {
            let packet = frame.get(14..)?;
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (6, packet[6], Ipv6Addr::from(to).into(), packet.get(40..)?)
        }
        _ => return None,
    };
    if !BEYOND.iter().any(|beyond| beyond.parse() == Ok(to)) {
        return None;
    }
    let port = || rest.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    Some(match protocol {
        6 => format!("tcp{version}/{}", port()),
        17 => format!("udp{version}/{}", port()),
        // Neighbours find each other (RFC 4861), and tell which groups they listen to (RFC 3810).
        58 if matches!(rest.first(), Some(130..=143)) => return None,
        1 | 58 => format!("icmp{version}"),
        44 => format!("fragments{version}"),
        other => format!("raw{version}/{other}"),
    })
}
