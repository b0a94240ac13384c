"""slowhttptest in its four modes: the proxy serves others meanwhile, lets go of the slow, and keeps its memory."""

import re
import subprocess
import time

from http2 import nginx
from outcome import Outcome

# How long the test may last, and how long Keyferry waits for a head; the first is far over the second.
LENGTH, HEAD_TIME = 40, 5

MODES = {
    "slow headers": ["-H", "-i", "2"],
    "slow body": ["-B", "-i", "2", "-s", "8192"],
    "ranges": ["-R", "-a", "10", "-b", "3000"],
    "slow read": ["-X", "-n", "2", "-w", "1", "-y", "4", "-z", "1", "-k", "3"],
}


def run(ground, tools, quick):
    connections = 50 if quick else 400
    version = subprocess.run(["slowhttptest", "-h"], capture_output=True, text=True).stdout
    outcome = Outcome("slowhttptest", re.search(r"version (\S+)", version)[1])
    (ground.dir / "www").mkdir()
    (ground.dir / "www/large").write_bytes(b"m" * 20_000_000)
    origin = nginx(ground, "")
    limits = f"head_time: {HEAD_TIME}s, response_time: 20s, connections: 1000"
    rule = "limits: { time: 20s }"
    keyferry = ground.keyferry(origin, rule, limits=limits)
    way = f"http://127.0.0.1:{keyferry.port}/"
    inside = f"https://localhost:{keyferry.open_way(tls=False)}/large"
    for where, url in {"the proxy port": way, "an intercepted connection": inside}.items():
        row = outcome.row(where)
        for name, options in MODES.items():
            before = keyferry.rss(), keyferry.descriptors()
            argv = ["slowhttptest", *options, "-c", str(connections), "-r", str(connections), "-l", str(LENGTH), "-p",
                    "5", "-v", "1", "-u", url]
            test = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            until = time.monotonic() + LENGTH - 5
            while test.poll() is None and time.monotonic() < until:
                time.sleep(0.5)
            # What the tool counts as connected may be closed here, with the reply still in the kernel.
            held = keyferry.descriptors() - before[1]
            told = re.sub(r"\x1b\[[0-9;]*m", "", test.communicate(timeout=60)[0])
            (ground.dir / "slowhttptest.log").open("a").write(" ".join(argv) + "\n" + told)
            judge(row, name, told, held, keyferry.rss() - before[0], connections)
            row.judge(f"{name}: still running", keyferry.well(), "Keyferry is gone or has panicked")
    return outcome


def judge(row, name, told, held, grown, connections):
    available = re.findall(r"service available: +(\w+)", told)
    row.judge(f"{name}: others are served", available and "NO" not in available, f"service available: {available}")
    row.judge(f"{name}: the slow are let go", held < connections // 10, f"{held} connections are still held")
    row.judge(f"{name}: memory", grown < connections * 256 + 20_000, f"grew by {grown} KiB")
