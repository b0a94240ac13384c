"""testssl.sh and sslyze against the two places where Keyferry ends an agent's TLS: behind CONNECT, and on a listener
with `tls: true`."""

import json
import re
import subprocess

from ground import free_port
from http2 import nginx
from outcome import Outcome

BAD = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL", "WARN"}

KNOWN = {
    "testssl*/engine_problem": "about the openssl that testssl runs with, not about Keyferry",
    "testssl*/cipher_order": "the agent chooses, as Mozilla's intermediate configuration has it: every suite is AEAD with forward secrecy",
    "testssl*/cert_expirationStatus": "leaves are made for some days and made anew in time",
    "testssl*/cert_notAfter": "as above",
    "testssl*/cert_revocation": "leaves live for days, and a private CA has nobody who would ask for a list",
    "testssl*/sessionresumption_ticket": "its s_client leaves before TLS 1.3's tickets come; `leaves::resumption` has the proof",
}


def run(ground, tools, quick):
    version = subprocess.run(["testssl", "--version"], capture_output=True, text=True).stdout
    testssl = re.search(r"testssl(?:\.sh)? +(?:version +)?([0-9.]+\S*)", version)
    sslyze = subprocess.run([tools / "venv/bin/pip", "show", "sslyze"], capture_output=True, text=True).stdout
    outcome = Outcome("testssl+sslyze", f"{testssl and testssl[1]}, {re.search(r'Version: (.*)', sslyze)[1]}")
    (ground.dir / "www").mkdir()
    (ground.dir / "www/index.html").write_text("hello\n")
    own = free_port()
    keyferry = ground.keyferry(nginx(ground, "http2"), "tunnel: false",
                               listen=f', {{ bind: "127.0.0.1:{own}", tls: true }}')
    places = {"behind CONNECT": keyferry.open_way(tls=False), "tls listener": own}
    for name, port in places.items():
        shaken(outcome.row(f"testssl, {name}"), ground, port, keyferry.ca, quick)
    for name, port in places.items():
        judged(outcome.row(f"sslyze, {name}"), ground, tools, port, keyferry.ca)
    return outcome


def shaken(row, ground, port, ca, quick):
    out = ground.dir / f"testssl-{port}.json"
    parts = ["-p", "-s", "-f"] if quick else ["-p", "-s", "-f", "-S", "-P", "-U", "-g"]
    argv = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1", "--add-ca", ca,
            "--jsonfile", str(out), "--connect-timeout", "10", "--openssl-timeout", "10", *parts, f"localhost:{port}"]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=1500, cwd=ground.dir)
    (ground.dir / f"testssl-{port}.log").write_text(told.stdout + told.stderr)
    for one in json.loads(out.read_text()):
        row.judge(one["id"], one["severity"] not in BAD, f"{one['severity']}: {one['finding']}")
    found = {one["id"]: one["finding"] for one in json.loads(out.read_text())}
    row.judge("TLS 1.3", "offered" in found.get("TLS1_3", ""), "it is not offered")
    row.judge("nothing older than TLS 1.2", all("not offered" in found.get(old, "") for old in
                                               ("SSLv2", "SSLv3", "TLS1", "TLS1_1")), "it is offered")


def judged(row, ground, tools, port, ca):
    out = ground.dir / f"sslyze-{port}.json"
    argv = [tools / "venv/bin/sslyze", "--mozilla_config=intermediate", f"--certinfo_ca_file={ca}", "--json_out", str(out),
            f"localhost:{port}"]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=600, cwd=ground.dir)
    (ground.dir / f"sslyze-{port}.log").write_text(told.stdout + told.stderr)
    (result,) = json.loads(out.read_text())["server_scan_results"]
    scans = result["scan_result"]
    for name, scan in scans.items():
        if scan["status"] == "NOT_SCHEDULED":
            continue
        row.judge(f"{name} was tried", scan["status"] == "COMPLETED", scan["status"])
    verified = [one["was_validation_successful"] for chain in scans["certificate_info"]["result"]["certificate_deployments"]
                for one in chain["path_validation_results"] if one["trust_store"]["name"] == "Supplied CA file"]
    row.judge("chain up to Keyferry's root", verified and all(verified), f"{verified}")
    compliant = re.search(r"COMPLIANCE AGAINST.*", told.stdout, re.S)
    compliant = compliant[0] if compliant else told.stdout[-500:]
    row.judge("Mozilla's intermediate configuration", "OK - Compliant" in compliant, " ".join(compliant.split())[:600])
