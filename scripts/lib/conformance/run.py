"""Runs the suites by name and tells what they found. Started by scripts/conformance."""

import argparse
import importlib
import sys
import time
from pathlib import Path

from ground import Ground

SUITES = ["websocket", "tls", "slow", "http2", "vectors", "downgrade"]


def main():
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases, for a first look")
    parser.add_argument("--keyferry", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--tools", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("suite", nargs="*", help=f"one of: {', '.join(SUITES)}; all of them if none is named")
    asked = parser.parse_args()
    unknown = [name for name in asked.suite if name not in SUITES]
    if unknown:
        parser.error(f"no suite is named {', '.join(unknown)}; there are {', '.join(SUITES)}")
    results = asked.tools / "results"
    results.mkdir(parents=True, exist_ok=True)
    bad = []
    for name in asked.suite or SUITES:
        suite, begun = importlib.import_module(name), time.monotonic()
        with Ground(asked.keyferry, asked.tools / "ground" / name) as ground:
            outcome = suite.run(ground, asked.tools, asked.quick)
        outcome.write(results)
        print(f"== {name}, {time.monotonic() - begun:.0f} s")
        for suite_name, version, row, passed, failed, skipped in outcome.table():
            print(f"   {suite_name} {version} | {row}: {passed} passed, {failed} failed, {skipped} not applicable")
        bad += outcome.unknown(getattr(suite, "KNOWN", {}))
    for row, case, why in bad:
        print(f"MISS {row} / {case}: {why}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
