"""What a wall adds to a start: `keyferry run --sandbox WALL -- true` beside the bare program that builds it, in turns.

The bare one has the least that starts a program: no proxy, no CA, no mounts but the machine's /usr, or an image of one program. Each pair is measured
in turns, so that whatever else the machine does falls on both.
"""

import argparse
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# What of the flags is looked for when it is measured.
KERNEL, DEVICE = "KERNEL", "DEVICE"
FLAGS = ["--platform=systrap", "--network=none", "--host-uds=open"]


def links():
    return [name for name in ("bin", "sbin", "lib", "lib64") if os.path.islink("/" + name)]


def bwrap(_):
    words = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for name in links():
        words += ["--symlink", os.readlink("/" + name), "/" + name]
    return words + ["true"]


def docker(place):
    image(place)
    return ["docker", "run", "--rm", "--network=none", "bare", "/usr/bin/true"]


def dockers_gvisor(place):
    image(place)
    return ["docker", "run", "--rm", "--runtime=runsc", "--network=none", "bare", "/usr/bin/true"]


def image(place):
    """One static program, and where it is looked for."""
    tree = os.path.join(place, "tree")
    os.makedirs(os.path.join(tree, "usr/bin"))
    shutil.copy(shutil.which("busybox"), os.path.join(tree, "usr/bin/true"))
    tar = subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(["docker", "import", "-", "bare"], stdin=tar.stdout, check=True, capture_output=True)


def gvisor(place):
    bundle = os.path.join(place, "bundle")
    os.makedirs(os.path.join(bundle, "rootfs/usr"))
    for name in links():
        os.symlink(os.readlink("/" + name), os.path.join(bundle, "rootfs", name))
    config = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": True},
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/usr/bin/true"], "env": ["PATH=/usr/bin"]},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
    }
    with open(os.path.join(bundle, "config.json"), "w") as file:
        json.dump(config, file)
    root = "--root=" + os.path.join(place, "runsc")
    return ["runsc", root, *FLAGS, "--ignore-cgroups", "run", "--bundle", bundle, "bare"]


def kernel():
    found = glob.glob("target/test-tools/microvm/kernel/boot/vmlinuz-*")
    return os.path.abspath(found[0]) if found else sys.exit("no kernel in target/test-tools; scripts/test installs one")


def machine(place):
    """QEMU with the same kernel and the same processor, and a first process that ends it at once."""
    tree = os.path.join(place, "tree")
    os.makedirs(os.path.join(tree, "bin"))
    shutil.copy(shutil.which("busybox"), os.path.join(tree, "bin/busybox"))
    with open(os.path.join(tree, "init"), "w") as file:
        file.write("#!/bin/busybox sh\n/bin/busybox reboot -f\n")
    os.chmod(os.path.join(tree, "init"), 0o755)
    packed = os.path.join(place, "initramfs")
    subprocess.run(f"cd {tree} && find . | cpio -o -H newc --quiet > {packed}", shell=True, check=True)
    words = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024M", "-nodefaults"]
    words += ["-display", "none", "-monitor", "none", "-no-reboot", "-serial", "stdio", "-kernel", kernel()]
    return words + ["-initrd", packed, "-append", "console=ttyS0 quiet panic=-1 mitigations=off"]


# By wall: the bare command line, what Keyferry is told, and the most that it may add.
WALLS = {
    "bwrap": (bwrap, ["--sandbox", "bwrap"], "50 ms"),
    "docker": (docker, ["--sandbox", "docker", "--image", "bare"], "15 %"),
    "gvisor": (gvisor, ["--sandbox", "gvisor"], "15 %"),
    "vm": (machine, ["--sandbox", "vm", "--memory", "1024", "--kernel", KERNEL, "--vsock-device", DEVICE], "20 %"),
    "gvisor in docker": (dockers_gvisor, ["--sandbox", "gvisor", "--image", "bare"], "15 %"),
}


class Daemon:
    """A Docker of the measurement's own, whose images are in memory; nothing of the machine's is touched."""

    def __init__(self, place):
        self.host = f"unix://{place}/docker.sock"
        config = {"runtimes": {"runsc": {"path": shutil.which("runsc"), "runtimeArgs": FLAGS}}}
        with open(os.path.join(place, "daemon.json"), "w") as file:
            json.dump(config, file)
        os.mkdir(os.path.join(place, "data"))
        script = f"""mount -t tmpfs tmpfs {place}/data
            exec dockerd --config-file {place}/daemon.json -H {self.host} --data-root {place}/data --exec-root {place}/exec \
            --pidfile {place}/pid --bridge=none --iptables=false --ip6tables=false"""
        log = open(os.path.join(place, "log"), "w")
        words = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "sh", "-ec", script]
        self.process = subprocess.Popen(words, stdout=log, stderr=log)
        os.environ["DOCKER_HOST"] = self.host
        for _ in range(200):
            if subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
                return
            time.sleep(0.05)
        sys.exit("dockerd does not start: " + open(os.path.join(place, "log")).read())

    def end(self):
        self.process.terminate()
        self.process.wait()


def took(words, place):
    began = time.monotonic()
    done = subprocess.run(words, cwd=os.path.join(place, "work"), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    spent = time.monotonic() - began
    if done.returncode != 0:
        sys.exit(f"{words}: {done.returncode}\n{done.stderr}")
    return spent * 1000


def measure(name, rounds, place):
    bare, flags, most = WALLS[name]
    own = os.path.join(place, name.replace(" ", "-"))
    os.mkdir(own)
    bare = bare(own)
    found = {KERNEL: kernel, DEVICE: lambda: shutil.which("vhost-device-vsock")}
    flags = [found[flag]() if flag in found else flag for flag in flags]
    ours = [os.environ["KEYFERRY"], "run", "--quiet", *flags, "--", "/usr/bin/true"]
    for words in (bare, ours):
        took(words, place)
    pairs = [(took(bare, place), took(ours, place)) for _ in range(rounds)]
    bare, ours = (statistics.median(pair[which] for pair in pairs) for which in (0, 1))
    added = f"{ours - bare:.0f} ms" if most.endswith("ms") else f"{(ours / bare - 1) * 100:.0f} %"
    print(f"| {name} | {bare:.0f} ms | {ours:.0f} ms | {ours / bare:.2f} | {added} | {most} |", flush=True)
    return float(added.split()[0]) <= float(most.split()[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--walls", default=",".join(WALLS))
    options = parser.parse_args()
    place = tempfile.mkdtemp(prefix="kfs-", dir="/tmp")
    os.mkdir(os.path.join(place, "work"))
    os.chmod(os.path.join(place, "work"), 0o777)
    os.environ["HOME"] = place
    walls = options.walls.split(",")
    daemon = Daemon(place) if any("docker" in wall for wall in walls) else None
    try:
        print("| wall | bare | with Keyferry | ratio | added | at most |\n|---|---:|---:|---:|---:|---:|")
        within = [measure(wall, options.rounds, place) for wall in walls]
    finally:
        if daemon:
            daemon.end()
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(0 if all(within) else 1)


main()
