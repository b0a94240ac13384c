"""h2rs: looks for request smuggling where HTTP/2 becomes HTTP/1.1."""

import re
import subprocess

from outcome import Outcome
from vectors import Origin


def run(ground, tools, quick):
    origin = Origin(ground)
    keyferry = ground.keyferry(origin.port, "inject: [{ bearer: key }]")
    # The tool names the host without a port.
    port = keyferry.open_way(tls=False, target=443)
    argv = [tools / "venv/bin/h2rs", "-t", "localhost", "-p", str(port), "-m", "3"]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=300, cwd=ground.dir)
    (ground.dir / "h2rs.log").write_text(told.stdout + told.stderr)
    outcome = Outcome("h2rs", re.search(r"version (\S+)", told.stdout)[1])
    row = outcome.row("HTTP/2 to HTTP/1.1")
    row.judge("an honest request", "status code 200" in told.stdout, "it is not answered with 200")
    verdicts = re.findall(r"^(.*)otencial vulnerable to (.*)\.$", told.stdout, re.M)
    for verdict, what in verdicts:
        row.judge(what, verdict.startswith("Not"), "potentially vulnerable, says h2rs")
    row.judge("all techniques were tried", len(verdicts) == 5, f"only {len(verdicts)} verdicts: {told.stderr[-300:]}")
    row.judge("what arrived is well-formed", not origin.errors, f"h11 says {origin.errors}")
    return outcome
