#!/usr/bin/env python3
"""What each feature of Keyferry costs: a small request and 10 KiB of JSON, through one that does ever more of its work.

In interleaved rounds: each step once, and then again.
"""

import argparse
import csv
import os
import sys
from pathlib import Path
from statistics import median

import peers
from bench import measure, say
from loads import Load
from net import API, AUTHORIZATION, PORT, folder_for, laid_out

PLACEHOLDER = "side-placeholder-0123456789abcdef"
PATHS = "allow: ['GET /**', 'POST /**'], "
INJECT = "inject: [{ bearer: token }], "
LIMITS = "limits: { rate: 1000000/s, concurrent: 1000, request_body: 1GiB, response_body: 1GiB, time: 10m }, "
SWAP = "inject: [{ placeholder: token, in: ['header:authorization'] }], "

# What is done, what the rule says for it, how many rules there are, and whether a record is written.
STEPS = [
    ("a tunnel: bytes are passed as they come", "tunnel: true, ", 1, False),
    ("TLS ended and begun anew, each request read and judged", "", 1, False),
    ("and a record written", "", 1, True),
    ("and 100 rules, of which the last matches", "", 100, True),
    ("and methods and paths", PATHS, 100, True),
    ("and a credential injected, the reply searched for it", PATHS + INJECT, 100, True),
    ("and every limit of a rule", PATHS + INJECT + LIMITS, 100, True),
    ("a placeholder swapped in a header, instead of injecting", PATHS + SWAP + LIMITS, 100, True),
]
LOADS = {"a small reply": "/small", "10 KiB of JSON": "/json"}


class Step(peers.Keyferry):
    """Keyferry, as far as one step."""

    def __init__(self, network, built, step):
        super().__init__(network, built)
        _, self.says, self.rules, self.recorded = step
        # Where nothing is injected, the agent has the credential; or what stands for it.
        self.injects = INJECT in self.says

    def roots(self):
        return [self.net.certs / "origin-ca.pem"] if "tunnel" in self.says else super().roots()

    def way(self, host):
        sent = f"Bearer {PLACEHOLDER}" if SWAP in self.says else AUTHORIZATION
        return [sent if word == AUTHORIZATION else word for word in super().way(host)]

    def written(self, load):
        secrets = f"secrets: {{ token: {{ file: '{self.dir}/token', placeholder: {PLACEHOLDER} }} }}\n"
        audit = f"{{ file: '{self.dir}/audit.jsonl' }}" if self.recorded else "none"
        names = [f"r{n}.rules.test" for n in range(1, self.rules)]
        rules = "".join(f"  - {{ {self.says}host: '{host}:{PORT}' }}\n" for host in [*names, API])
        return self.settings() + f"audit: {audit}\n{secrets}rules:\n{rules}"


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench features", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--out", default="", help="a folder for features.md and features.csv; target/bench otherwise")
    parser.add_argument("--load-cpu", type=int, default=0)
    parser.add_argument("--proxy-cpu", type=int, default=1)
    options = parser.parse_args()
    out = folder_for(options)
    costs = {(step, load): [] for step in range(len(STEPS)) for load in LOADS}
    with laid_out(options) as network:
        for number in range(options.rounds):
            for step, load in costs:
                costs[step, load].append(cost(options, network, f"{step}-{number}", STEPS[step], load))
    text = table({at: median(found) for at, found in costs.items()})
    (out / "features.md").write_text(text)
    with open(out / "features.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "load", "cpu_us", "min", "max"])
        writer.writerows([STEPS[step][0], load, median(found), min(found), max(found)] for (step, load), found in costs.items())
    print(text)


def cost(options, network, name, step, load):
    """Microseconds of processor time for a request."""
    peer = Step(network, Path(os.environ["SIDE_PEERS"]), step)
    told = measure(options, network, network.work / name, peer, Load(f"kept --connections 32 --path {LOADS[load]}", ""))
    if told.get("failed") or told.get("errors"):
        sys.exit(f"{step[0]}: {told}")
    say(f"{step[0]}, {load}: {told['cpu_s_per_1000'] * 1000:.1f} µs")
    return told["cpu_s_per_1000"] * 1000


def table(costs):
    lines = ["| what is done | " + " | ".join(f"{load}, µs | more" for load in LOADS) + " |", "|---" + "|---:" * 2 * len(LOADS) + "|"]
    for step, (does, *_) in enumerate(STEPS):
        cells = []
        for load in LOADS:
            cells.append(f"{costs[step, load]:.0f}")
            cells.append(f"{costs[step, load] - costs[step - 1, load]:+.1f}" if step else "")
        lines.append(f"| {does} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
