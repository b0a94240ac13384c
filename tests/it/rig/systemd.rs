//! systemd itself, as the first process of namespaces of its own, with nothing in them but what a test puts there. The
//! network is the machine's.

use super::{eventually, tools};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Builds a root of its own on top of nothing (`$1` is where), enters it, and becomes systemd.
const BOOT: &str = r#"
root=$1 target=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr etc run tmp src var/lib var/log proc sys dev root .old
mount --rbind -o ro /usr usr
for link in bin sbin lib lib32 lib64 libx32; do [ ! -L "/$link" ] || cp -P "/$link" "$link"; done
mount -t tmpfs -o mode=755 tmpfs usr/local
mkdir -p usr/local/bin
for name in passwd group nsswitch.conf ld.so.cache alternatives ssl hosts; do
  [ ! -e "/etc/$name" ] || cp -aL "/etc/$name" etc/ 2>/dev/null || true
done
echo 0123456789abcdef0123456789abcdef > etc/machine-id
cp -a "$PUT/." .
mount -t proc proc proc
# What is set there is the whole machine's.
mount --bind -o ro proc/sys proc/sys
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs -o mode=755 tmpfs dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r name major minor <<<"$node"
  mknod -m 666 "dev/$name" c "$major" "$minor"
done
mkdir dev/shm dev/pts dev/mqueue
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
pivot_root . .old
umount -l /.old
# Credentials are mounted elsewhere and moved to their place, which others see only where mounts are shared.
mount --make-rshared /
exec env -i container=keyferry-test PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin \
  /lib/systemd/systemd --system "--unit=$target" --log-target=null --show-status=no
"#;

/// Enters a control group, `$1`, so that systemd has no more than that one.
const ENTER: &str = r#"
mkdir "$1"
echo $$ > "$1/cgroup.procs"
shift
exec "$@"
"#;

/// A running systemd.
pub struct Systemd {
    child: Child,
    group: PathBuf,
    /// Its process, as seen from here.
    pid: u32,
}

impl Systemd {
    /// Boots one, with all that is below `put` in its root, and nothing started yet.
    pub async fn boot(dir: &Path, put: &Path) -> Self {
        let (root, script) = (dir.join("root"), dir.join("boot.sh"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(&script, BOOT).unwrap();
        let units = put.join("etc/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        std::fs::write(units.join("empty.target"), "[Unit]\nDescription=Nothing\n").unwrap();
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let groups = if unified {
            "/sys/fs/cgroup"
        } else {
            "/sys/fs/cgroup/systemd"
        };
        let group = Path::new(groups).join(dir.file_name().unwrap());
        let child = Command::new("/bin/bash")
            .args(["-euc", ENTER, "sh"])
            .arg(&group)
            .arg(tools::need("unshare"))
            .args([
                "--fork",
                "--kill-child",
                "--pid",
                "--mount",
                "--uts",
                "--ipc",
                "--cgroup",
            ])
            .args(["/bin/bash", "-euc"])
            .arg(format!(". {} {} empty.target", script.display(), root.display()))
            .env("PUT", put)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut booted = Self { child, group, pid: 0 };
        booted.pid = eventually("systemd", || {
            let children = format!("/proc/{0}/task/{0}/children", booted.child.id());
            let pid = std::fs::read_to_string(children).ok()?.trim().parse().ok()?;
            let up = booted.at(pid, "systemctl", &["is-system-running"]);
            (String::from_utf8_lossy(&up.stdout).trim() == "running").then_some(pid)
        })
        .await;
        booted
    }

    /// Runs commands inside, in `/src`, which must succeed; what they printed.
    pub fn shell(&self, commands: &str) -> String {
        let output = self.at(self.pid, "sh", &["-euc", &format!("cd /src\n{commands}")]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}: {said}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn at(&self, pid: u32, program: &str, words: &[&str]) -> Output {
        let mut command = Command::new(tools::need("nsenter"));
        command
            .args(["--target", &pid.to_string()])
            .args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd=/"])
            .args([
                "env",
                "-i",
                "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin",
                "SYSTEMD_PAGER=",
                program,
            ])
            .args(words);
        command.output().unwrap()
    }

    /// What its services wrote to `/var/log/services`, and how they are.
    pub fn log(&self) -> String {
        let look = "cat /var/log/services; systemctl status --failed";
        let output = self.at(self.pid, "sh", &["-c", look]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its processes go with it, and then their groups can.
        for _ in 0..100 {
            let mut find = Command::new("find");
            find.arg(&self.group)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
            let _ = find.output();
            if !self.group.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
