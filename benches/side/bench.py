#!/usr/bin/env python3
"""Measures proxies side by side. `scripts/bench` starts it, in namespaces of its own."""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

import loads
import peers
import report
from net import folder_for, laid_out


def main():
    options = arguments()
    with laid_out(options) as network:
        sys.exit(session(options, network, network.work))


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure Keyferry and its peers side by side.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: does it all work? less than a minute, no figures to keep")
    parser.add_argument("--peers", default="", help="names, with commas between; all that are found otherwise")
    parser.add_argument("--loads", default="", help="names or beginnings of names, with commas between; all otherwise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--out", default="", help="a folder for table.md, figures.csv and raw.jsonl; target/bench otherwise")
    parser.add_argument("--load-cpu", type=int, default=0, help="the processor for load and origins")
    parser.add_argument("--proxy-cpu", type=int, default=1, help="the processor for the proxy")
    parser.add_argument("--list", action="store_true", help="say what is there, and measure nothing")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
        options.peers = options.peers or ",".join(loads.QUICK_PEERS)
        options.loads = options.loads or ",".join(loads.QUICK)
    return options


def session(options, network, work):
    wanted = [name for name in options.peers.split(",") if name]
    there = [peer(network, Path(os.environ["SIDE_PEERS"])) for peer in peers.ALL if not wanted or peer.name in wanted]
    for peer in there:
        say(f"{peer.name:10} {peer.version() if peer.found() else 'is not there, and is left out'}")
    there = [peer for peer in there if peer.found()]
    begins = tuple(name for name in options.loads.split(",") if name)
    chosen = [name for name in loads.LOADS if not begins or name.startswith(begins)]
    if options.list:
        return 0
    out = folder_for(options)
    results, started = [], time.strftime("%Y-%m-%d %H:%M")
    with open(out / "raw.jsonl", "w") as raw:
        for name in chosen:
            for result in rounds(options, network, work, there, name):
                results.append(result)
                raw.write(json.dumps(result) + "\n")
                raw.flush()
    about = {peer.name: (peer.version(), peer.about) for peer in there}
    table = report.write(out, results, about, started)
    print(table)
    say(f"written to {out}")
    # A figure is the reader's to judge; a request that was not answered is a failure.
    return 1 if any(r["peer"] == "keyferry" and (r.get("failed") or r.get("errors")) for r in results) else 0


def rounds(options, network, work, there, name):
    """Every peer once, and then again: what disturbs the machine disturbs all of them."""
    load = loads.LOADS[name]
    able = [peer for peer in there if load.needs in peer.can]
    given_up = set()
    for number in range(1, options.rounds + 1):
        for peer in able:
            if peer.name in given_up:
                continue
            result = measure(options, network, work / f"{name}-{peer.name}-{number}", peer, load)
            if result.get("failed"):
                given_up.add(peer.name)
            result.update(load=name, peer=peer.name, round=number)
            told = {key: result.get(key) for key in (load.figure, load.cost, "errors", "foreign", "failed")}
            say(f"{name} {number} {peer.name}: " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in told.items() if v))
            yield result


def measure(options, network, folder, peer, load):
    words = load.words.split()
    try:
        peer.start(load, folder)
        once = ["--path", "/small", *(["--http2"] if "--http2" in words else [])]
        until = time.monotonic() + peer.patience
        # What it is trusted by may be written only once it runs, so its way is asked for each time.
        while (first := network.load(["once", *peer.way(load.host), *once])).get("status") != 200:
            if time.monotonic() > until:
                return {"failed": f"not one request came through: {json.dumps(first)[:200]} {tail(folder)}"}
            time.sleep(0.2)
        timed = ["--seconds", str(options.seconds)] if load.timed else []
        result = network.load([words[0], *peer.way(load.host), *words[1:], *timed], peer.process.pid)
        if peer.process.poll() is not None:
            result["failed"] = f"it ended with {peer.process.returncode}: {tail(folder)}"
        return result
    except RuntimeError as error:
        return {"failed": f"{error} {tail(folder)}"}
    finally:
        peer.stop()
        shutil.rmtree(folder, ignore_errors=True)


def tail(folder):
    log = folder / "log"
    return log.read_text(errors="replace").strip()[-300:] if log.exists() else ""


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
