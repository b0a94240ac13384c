"""What root of a virtual machine tries, without a filter and with every capability: one JSON object of what came of it."""

import concurrent.futures
import ctypes
import errno
import json
import os
import socket
import subprocess
import sys

told = {}
host = json.loads(sys.argv[1])
credential = "".join(host["credential"]).encode()


def attempt(name, way):
    try:
        told[name] = way() or "open"
    except OSError as error:
        told[name] = errno.errorcode.get(error.errno, str(error))


def connect(family, address, kind=socket.SOCK_STREAM):
    def way():
        with socket.socket(family, kind) as one:
            one.settimeout(3)
            one.connect(address)

    return way


def ping():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as one:
        one.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", ("203.0.113.9", 0))


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


def reached(places):
    """Those that answer, of ports or of machines; all are tried at once, as nobody says no."""

    def one(place):
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as joined:
            try:
                joined.connect(place)
            except OSError:
                return None
            joined.settimeout(2)
            try:
                # Where nobody is, the connection may be closed only once it stands.
                return place if joined.recv(1) else None
            except TimeoutError:
                return place
            except OSError:
                return None

    with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
        found = [place for place in pool.map(one, places) if place]
    return str(found) if found else "none"


def libc(call, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, call)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), call)


def mount(source, target, kind, flags=0, options=b""):
    libc("mount", source.encode(), target.encode(), kind.encode(), flags, options)


def writable(path, file):
    """As it is, and after the machine's own mount was made writable (MS_REMOUNT | MS_BIND, then MS_REMOUNT)."""

    def way():
        for flags in (32 | 4096, 32):
            try:
                mount("none", path, "none", flags)
            except OSError:
                pass
        return write(os.path.join(path, file))()

    return way


def unmounted():
    libc("umount2", b".env", 2) if os.path.ismount(".env") else None
    return read(".env")()


def second_mount():
    os.makedirs("/tmp/again", exist_ok=True)
    mount("shared", "/tmp/again", "9p", 0, b"trans=virtio,version=9p2000.L")
    return read("/tmp/again" + os.getcwd() + "/.env")()


def anywhere():
    """Every file that is not of the system's programs, and what root can read of the first process."""
    found = []
    for top in (os.getcwd(), host["shown"], "/etc", "/tmp", "/home", "/var", "/run"):
        for dir, _, files in os.walk(top):
            for name in files:
                try:
                    with open(os.path.join(dir, name), "rb") as one:
                        if credential in one.read():
                            found.append(os.path.join(dir, name))
                except OSError:
                    pass
    for process in os.listdir("/proc"):
        for name in ("environ", "cmdline") if process.isdigit() else ():
            try:
                with open(f"/proc/{process}/{name}", "rb") as one:
                    if credential in one.read():
                        found.append(f"{process}/{name}")
            except OSError:
                pass
    return str(found) if found else "none"


def old_root():
    """Out of a changed root as root can get, and to what lies below it: nothing there is masked any less."""
    os.makedirs("/tmp/deeper", exist_ok=True)
    inside = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/deeper")
    os.fchdir(inside)
    for _ in range(20):
        os.chdir("..")
    os.chroot(".")
    found = []
    for dir, dirs, files in os.walk("/shared"):
        for name in files:
            with open(os.path.join(dir, name), "rb") as one:
                if credential in one.read():
                    found.append(os.path.join(dir, name))
    return str(found) if found else "none"


attempt("tcp", connect(socket.AF_INET, ("203.0.113.9", 443)))
attempt("udp", connect(socket.AF_INET, ("203.0.113.9", 53), socket.SOCK_DGRAM))
attempt("ipv6", connect(socket.AF_INET6, ("2001:db8::9", 443)))
attempt("ping", ping)
attempt("interfaces", lambda: " ".join(name for _, name in socket.if_nameindex()))
attempt("vsock proxy", connect(socket.AF_VSOCK, (2, 3128)))
others = [1, 22, 80, 443, 1024, 3127, *range(3129, 3140), 5000, 8080, 9999]
attempt("vsock ports", lambda: reached([(2, port) for port in others]))
attempt("vsock machines", lambda: reached([(cid, 3128) for cid in (0, 1, 3, 4, 5)]))
attempt("masked", read(".env"))
attempt("masked by root", read("/proc/1/root/shared" + os.getcwd() + "/.env"))
attempt("masked by unmount", unmounted)
attempt("masked by a second mount", second_mount)
attempt("masked directory", lambda: str(os.listdir(".aws")))
attempt("unmask by rename", lambda: os.rename(".env", "other"))
attempt("unmask by unlink", lambda: os.unlink(".env"))
attempt("unmask by parent", lambda: (os.rename("nested", "moved"), read("moved/.env")())[1])
attempt("credential anywhere", anywhere)
attempt("home of the caller", lambda: str(os.listdir(host["home"])))
attempt("ca key", read(host["ca_key"]))
attempt("passwords", read("/etc/shadow"))
attempt("write to usr", writable("/usr", "escaped"))
attempt("write to what is shown to read", writable(host["shown"], "escaped"))
attempt("make a disk", lambda: os.mknod("disk", 0o60666, os.makedev(8, 0)))
attempt("here", write("written-by-root"))
attempt("old root", old_root)
print(json.dumps(told))
