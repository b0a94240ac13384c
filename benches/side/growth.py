#!/usr/bin/env python3
"""How the cost of Keyferry grows: with connections, rules, secrets, names and the length of bodies, and on two processors.

Starts it anew for every value, in interleaved rounds: every value once, and then again.
"""

import argparse
import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Callable

import chart
import peers
from bench import measure, say
from loads import Load
from net import folder_for, laid_out

KIB, MIB = 1 << 10, 1 << 20


@dataclass
class Axis:
    """What grows, through which values, and what is looked at; each figure is taken out of what a load tells."""

    title: str
    values: list
    load: Callable
    cost: str
    # Microseconds of processor time, for whatever is counted.
    of: Callable = lambda told, value: told["cpu_s_per_1000"] * 1000


def kept(connections=32, **more):
    return Load(f"kept --connections {connections}", "", **more)


AXES = {
    # With 20,000 open files, which is as many as some machines allow, it serves 9,968 connections.
    "connections": Axis("open connections", [1, 10, 100, 1000, 9900], kept, "µs for a request"),
    "rules": Axis("rules, of which the last matches", [1, 10, 100, 1000, 10_000, 100_000], lambda n: kept(rules=n), "µs for a request"),
    "secrets": Axis("secrets, each of a rule", [1, 10, 100, 1000, 10_000], lambda n: kept(rules=max(100, n), secrets=n), "µs for a request"),
    "names": Axis(
        "names seen, each with a leaf",
        [10, 100, 1000, 5000],
        lambda n: Load(f"names --names {n} --limit 60", "", needs="mint", timed=False),
        "µs for a first request",
    ),
    "bodies": Axis(
        "length of a reply, in KiB",
        [1, 10, 100, 1000, 10_000, 100_000],
        lambda n: Load(f"kept --connections 4 --path /of-{n}", ""),
        "µs for a KiB",
        lambda told, value: told["cpu_s_per_1000"] * 1000 / value,
    ),
    "processors": Axis("processors that it may use", [1, 2], lambda _: kept(64), "µs for a request"),
}


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__.split("\n")[0])
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--most", type=int, default=10**9, help="leave out greater values")
    parser.add_argument("--out", default="", help="a folder for growth.svg and growth.csv; target/bench otherwise")
    parser.add_argument("--load-cpu", type=int, default=0)
    parser.add_argument("--proxy-cpu", type=int, default=1)
    options = parser.parse_args()
    out = folder_for(options)
    with laid_out(options) as network:
        panels, rows = [], []
        for name in options.axes.split(","):
            found = grown(options, network, name)
            panels.append((AXES[name], found))
            rows += [(name, value, *figures) for value, figures in found.items()]
    with open(out / "growth.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["axis", "value", "cpu_us", "peak_mib"])
        writer.writerows(rows)
    (out / "growth.svg").write_text(drawn(panels))
    say(f"written to {out}")


def grown(options, network, name):
    """For each value, the median of the processor time, and of the most memory."""
    axis = AXES[name]
    values = [value for value in axis.values if value <= options.most]
    if name == "bodies":
        for value in values:
            (network.work / "origin/www" / f"of-{value}").write_bytes(b"b" * value * KIB)
    seen = {value: [] for value in values}
    for number in range(options.rounds):
        for value in values:
            # On both, it shares one with the load, which has its own bound: only the time it takes is looked at.
            network.proxy_cpu = options.proxy_cpu if name != "processors" or value == 1 else (options.load_cpu, options.proxy_cpu)
            peer = peers.Keyferry(network, Path(os.environ["SIDE_PEERS"]))
            told = measure(options, network, network.work / f"{name}-{value}-{number}", peer, axis.load(value))
            if told.get("failed") or told.get("errors"):
                sys.exit(f"{name} {value}: {told}")
            figures = (axis.of(told, value), told["rss_peak_kib"] * KIB / MIB)
            seen[value].append(figures)
            say(f"{name} {value}: {figures[0]:.4g} {axis.cost}, {figures[1]:.1f} MiB")
    network.proxy_cpu = options.proxy_cpu
    return {value: tuple(median(column) for column in zip(*runs)) for value, runs in seen.items()}


def drawn(panels):
    rows = []
    for axis, found in panels:
        points = list(found.items())
        rows.append([
            chart.Panel(f"{axis.cost}, by {axis.title}", [(value, figures[0]) for value, figures in points]),
            chart.Panel("MiB resident, at most", [(value, figures[1]) for value, figures in points]),
        ])  # fmt: skip
    return chart.draw(rows)


if __name__ == "__main__":
    main()
