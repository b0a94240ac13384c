"""Autobahn's WebSocket test suite, in both its roles, over each way a WebSocket can go through Keyferry.

`fuzzingserver` is the upstream of Autobahn's own client, and `fuzzingclient` the agent of Autobahn's own server; so
whatever does not come out as it does without Keyferry is Keyferry's doing.
"""

import json

from ground import Front, free_port
from outcome import Outcome

# Compression is agreed on end to end only where the frames pass unread; where a credential went out it is not offered
# (cases 12 and 13), and those cases come out as unimplemented. Of these cases, which differ in sizes, some are played.
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
CASES += [f"12.{group}.{case}" for group in (1, 2) for case in (1, 5, 10, 13, 18)] + ["13.1.1", "13.3.1", "13.7.1"]
QUICK = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.1.*", "6.2.*", "7.*", "10.*"]

WAYS = {
    "unread": "tunnel: false",
    "scrubbed": "inject: [{ bearer: key }]",
    "rewritten": 'inject: [{ placeholder: key, in: [websocket, "header:authorization"] }, { header: x-key, value: "${key}" }]',
}

GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}


def run(ground, tools, quick):
    cases = QUICK if quick else CASES
    wstest = str(tools / "wstest")
    outcome = Outcome("autobahn", version(ground, wstest))
    direct = {role: ROLES[role](ground, wstest, "direct", None, cases) for role in ROLES}
    for way, rule in WAYS.items():
        for role, play in ROLES.items():
            found = play(ground, wstest, way, rule, cases)
            judge(outcome, f"{role}, {way}", found, direct[role])
    return outcome


def version(ground, wstest):
    child = ground.start("wstest-version", [wstest, "--autobahnversion"])
    child.wait(60)
    return (ground.dir / "wstest-version.log").read_text().split()[-1]


def upstream_role(ground, wstest, way, rule, cases):
    """The suite is the host, and sends what a host may or may not send."""
    port, name = free_port(), f"server-{way}"
    spec = {"url": f"ws://localhost:{port}", "outdir": str(ground.dir / name), "cases": cases, "exclude-cases": [],
            "exclude-agent-cases": {}, "options": {"failByDrop": False}}
    server = serve(ground, wstest, name, "fuzzingserver", port, spec)
    played = ground.start(f"{name}-client", [wstest, "-m", "testeeclient", "-w", url(ground, name, rule, port),
                                             "-i", way])
    finish(ground, played, f"{name}-client")
    ground.end(server)
    return report(ground, name)


def agent_role(ground, wstest, way, rule, cases):
    """The suite is the agent, and sends what an agent may or may not send."""
    port, name = free_port(), f"client-{way}"
    server = serve(ground, wstest, name, "testeeserver", port, None)
    spec = {"outdir": str(ground.dir / name), "cases": cases, "exclude-cases": [], "exclude-agent-cases": {},
            "servers": [{"agent": way, "url": url(ground, name, rule, port), "options": {"version": 18}}]}
    file = ground.dir / f"{name}-client.json"
    file.write_text(json.dumps(spec))
    played = ground.start(f"{name}-client", [wstest, "-m", "fuzzingclient", "-s", str(file)])
    finish(ground, played, f"{name}-client")
    ground.end(server)
    return report(ground, name)


ROLES = {"suite as upstream": upstream_role, "suite as agent": agent_role}


def serve(ground, wstest, name, mode, port, spec):
    argv = [wstest, "-m", mode, "-u", "0"]
    if spec:
        file = ground.dir / f"{name}.json"
        file.write_text(json.dumps(spec))
        argv += ["-s", str(file)]
    else:
        argv += ["-w", f"ws://localhost:{port}"]
    return ground.start(f"{name}-host", argv, port)


def url(ground, name, rule, port):
    """Where the other side connects: to the host, or to the way through Keyferry."""
    rule = rule or "tunnel: false"
    if name.endswith("-direct"):
        return f"ws://localhost:{port}"
    keyferry = ground.keyferry(Front(ground, port).port, rule, f"keyferry-{name}")
    return f"ws://localhost:{keyferry.open_way(tls=True)}"


def finish(ground, child, name):
    if child.wait(1800) != 0:
        raise SystemExit(f"{name} failed:\n{(ground.dir / f'{name}.log').read_text(errors='replace')[-2000:]}")


def report(ground, name):
    (cases,) = json.loads((ground.dir / name / "index.json").read_text()).values()
    return {case: (one["behavior"], one["behaviorClose"]) for case, one in cases.items()}


def judge(outcome, what, found, direct):
    """A case passes if it comes out well, and as well as it does without Keyferry."""
    row = outcome.row(what)
    for case, (behavior, closing) in found.items():
        if behavior == "UNIMPLEMENTED":
            row.skip(case, "compression is not offered where replies are searched")
        elif behavior in GOOD and (closing in GOOD or closing == direct[case][1]):
            row.ok(case)
        else:
            row.miss(case, f"{behavior}, closing {closing}; without Keyferry {', '.join(direct[case])}")
    missing = set(direct) - set(found)
    for case in missing:
        row.miss(case, "was not played")
