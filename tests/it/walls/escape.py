"""Tries every way out of a wall, and prints what came of each as one JSON object."""

import ctypes
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys

told = {}
host = json.loads(sys.argv[1])


def attempt(name, way):
    """"open" or what the way yielded, or the error's name: whatever it is, the test judges."""
    try:
        told[name] = way() or "open"
    except OSError as error:
        told[name] = errno.errorcode.get(error.errno, str(error))
    except Exception as error:
        told[name] = type(error).__name__


def connect(family, address, kind=socket.SOCK_STREAM):
    def way():
        with socket.socket(family, kind) as one:
            one.settimeout(3)
            one.connect(address)
            if kind == socket.SOCK_DGRAM:
                one.send(b"x")

    return way


def make(family, kind, protocol=0):
    return lambda: socket.socket(family, kind, protocol).close()


def read(path):
    def way():
        with open(path, "rb") as one:
            return one.read(200).decode("utf-8", "replace") or "empty"

    return way


def write(path):
    def way():
        with open(path, "wb") as one:
            one.write(b"x")

    return way


def open_to_write(path):
    """What the machine depends on is opened only: where the wall fails, nothing is changed."""
    return lambda: os.close(os.open(path, os.O_WRONLY))


def run(*words):
    def way():
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
        return f"{done.returncode}"

    return way


def call(number, *arguments):
    def way():
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    return way


def environment(process):
    """Of a process that is not the command's own, nothing is seen, or nothing that is a credential."""

    def way():
        with open(f"/proc/{process}/environ", "rb") as one:
            return "a credential" if host["backwards"][::-1].encode() in one.read() else "no credential"

    return way


def clone():
    """A child in a user namespace of its own, as fork makes one (CLONE_NEWUSER, SIGCHLD)."""
    libc = ctypes.CDLL(None, use_errno=True)
    child = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "refused")
    os.waitpid(child, 0)


def capabilities():
    """Every capability, for this very process (capset, version 3)."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    all_of_them = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
    if libc.syscall(126, head, all_of_them) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def join_group():
    """The groups of whoever holds the bounds."""
    for place in ("/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/cgroup.procs"):
        if os.path.exists(place):
            os.close(os.open(place, os.O_WRONLY))
            return "open"
    raise OSError(errno.ENOENT, "none is seen")


def device():
    """The first disk."""
    os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0))
    os.close(os.open("/tmp/disk", os.O_RDONLY))


def unmask():
    """By whoever is root in namespaces of its own, if it gets any: it takes away what lies over a file, or goes round it."""
    script = "umount -l .env; umount -l .; mount --rbind . /tmp; mount --bind nested /home; cat .env nested/.env /tmp/.env /home/.env"
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, timeout=20)
    return done.stdout or "empty"


def own_program():
    """What is the bridge inside is Keyferry's own file outside. One that runs cannot be written to, so its mode is set."""
    for place in ("/run/keyferry/keyferry", "/run/keyferry/bin/keyferry"):
        if os.path.exists(place):
            os.chmod(place, 0o755)
            return "open"
    raise OSError(errno.EINVAL, "it is not there")


def forks():
    made = 0
    children = []
    try:
        while made < 20000:
            child = os.fork()
            if child == 0:
                while True:
                    os.read(0, 1)
                    os._exit(0)
            children.append(child)
            made += 1
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
    return f"unbounded: {made}"


def hog(bytes_wanted):
    def way():
        words = [sys.executable, "-c", f"x = bytearray({bytes_wanted}); print(len(x))"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        return "unbounded" if done.returncode == 0 else "bounded"

    return way


def fill(directory):
    def way():
        piece = b"x" * (1 << 20)
        path = os.path.join(directory, "filler")
        try:
            with open(path, "wb") as one:
                for _ in range(host["room_mib"] + 64):
                    one.write(piece)
        finally:
            if os.path.exists(path):
                os.unlink(path)
        return "unbounded"

    return way


INET, INET6, UNIX = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX
STREAM, DGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW

attempt("tcp", connect(INET, ("203.0.113.9", 443)))
attempt("udp", connect(INET, ("203.0.113.9", 443), DGRAM))
attempt("dns", connect(INET, ("203.0.113.53", 53), DGRAM))
attempt("names", lambda: str(socket.getaddrinfo("example.com", 443)))
attempt("ipv6", connect(INET6, ("2001:db8::9", 443)))
attempt("metadata", connect(INET, ("169.254.169.254", 80)))
attempt("icmp", make(INET, RAW, socket.IPPROTO_ICMP))
attempt("ping socket", connect(INET, ("203.0.113.9", 0), DGRAM))
attempt("raw", make(INET, RAW, socket.IPPROTO_RAW))
attempt("packet", make(17, RAW))
attempt("vsock", make(40, STREAM))
attempt("alg", make(38, socket.SOCK_SEQPACKET))
attempt("xdp", make(44, RAW))
attempt("bluetooth", make(31, RAW, 1))
attempt("firewall", make(16, RAW, 12))
attempt("host loopback", connect(INET, ("127.0.0.1", host["port"])))
attempt("host loopback 6", connect(INET6, ("::1", host["port"])))
attempt("abstract", connect(UNIX, "\0" + host["abstract"]))
attempt("docker", connect(UNIX, "/var/run/docker.sock"))
attempt("docker 2", connect(UNIX, "/run/docker.sock"))
attempt("the wall's daemon", connect(UNIX, host["daemon"]))
attempt("containerd", connect(UNIX, "/run/containerd/containerd.sock"))
attempt("podman", connect(UNIX, "/run/podman/podman.sock"))
attempt("system bus", connect(UNIX, "/run/dbus/system_bus_socket"))
attempt("log", connect(UNIX, "/dev/log", DGRAM))
attempt("admin", connect(INET, ("127.0.0.1", host["admin"])))
attempt("ca key", read(host["ca_key"]))
attempt("state", lambda: str(os.listdir(host["state"])))
attempt("config", read(host["config"]))
attempt("own environment", read("/proc/self/environ"))
attempt("init environment", environment(1))
attempt("processes", lambda: " ".join(open(f"/proc/{p}/cmdline").read() for p in os.listdir("/proc") if p.isdigit()))
attempt("masked", read(".env"))
attempt("masked link", read("link-to-env"))
attempt("masked hard link", read("hard-link"))
attempt("masked by root", read("/proc/self/root" + os.getcwd() + "/.env"))
attempt("masked by cwd", read("/proc/self/cwd/.env"))
attempt("masked directory", lambda: str(os.listdir(".aws")))
attempt("unmask by rename", lambda: os.rename(".env", "other"))
attempt("unmask by unlink", lambda: os.unlink(".env"))
attempt("unmask by umount", run("umount", ".env"))
attempt("unmask by parent", lambda: (os.rename("nested", "moved"), read("moved/.env")())[1])
attempt("home of the caller", lambda: str(os.listdir(host["home"])))
attempt("passwords", read("/etc/shadow"))
attempt("write to the root", write("/escaped"))
attempt("write to usr", write("/usr/escaped"))
attempt("write to etc", write("/etc/escaped"))
attempt("write to dev", write("/dev/escaped"))
attempt("write to proc", open_to_write("/proc/sys/kernel/core_pattern"))
attempt("write to sysrq", open_to_write("/proc/sysrq-trigger"))
attempt("write to sys", open_to_write("/sys/kernel/uevent_helper"))
attempt("write to control groups", join_group)
attempt("write to own program", own_program)
attempt("write to own files", write("/run/keyferry/escaped"))
attempt("write to the socket's place", write("/run/keyferry/proxy/escaped"))
attempt("replace the socket", lambda: os.unlink("/run/keyferry/proxy/proxy.sock"))
attempt("memory of the machine", read("/dev/mem"))
attempt("log of the kernel", read("/dev/kmsg"))
attempt("make a device", device)
attempt("unmask in a namespace", unmask)
attempt("own capabilities", capabilities)
attempt("become root", lambda: os.setresuid(0, 0, 0))
attempt("host name", lambda: socket.sethostname("escaped"))
attempt("type at the terminal", lambda: fcntl.ioctl(0, 0x5412, b"x"))
attempt("open by handle", call(304, -100, 0, 0))
attempt("user namespace", run("unshare", "-Ur", "true"))
attempt("user namespace by clone", clone)
attempt("user namespace by clone3", call(435, 0, 0))
attempt("mount", run("mount", "-t", "tmpfs", "none", "/tmp"))
attempt("setuid program", run("su", "-c", "true"))
attempt("ptrace", call(101, 16, os.getppid(), 0, 0))
attempt("io_uring", call(425, 8, 0))
attempt("keyring", call(250, 0, -3, 0))
attempt("bpf", call(321, 0, 0, 0))
attempt("kill outside", lambda: os.kill(host["pid"], 0))
if host["bounded"]:
    attempt("forks", forks)
    attempt("memory", hog(host["memory"]))
attempt("fill /tmp", fill("/tmp"))
for place in ("/dev/shm", os.environ["HOME"]):
    attempt("room of " + place, lambda: str(os.statvfs(place).f_blocks * os.statvfs(place).f_frsize >> 20))
attempt("here", write("written-here"))
told["capabilities"] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")]
told["no new privileges"] = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)
print(json.dumps(told))
