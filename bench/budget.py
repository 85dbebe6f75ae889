#!/usr/bin/env python3
"""Instructions that a warm request costs, against a recorded budget. They hardly vary, unlike times.

The server runs in valgrind's callgrind with N requests of each kind on one kept
connection, the base, and for each kind once more with 2N of that. The
difference, divided by N, is what one costs in user space; start, fill and stop
cancel out. Fails when a kind costs more than the budget in bench/budget.json and
the tolerance in percent, and then lists the functions where most instructions
go. What seems too much is measured again, the base as often from the start, and
the least counts: a thread that was held up costs instructions, and nothing makes
fewer of them than are needed. Where most kinds seem to cost less, the base was
too much each time, and the run fails since it could hide a kind that costs more.
With other versions of the libraries than the budget was recorded with, the
tolerance is three times as wide. --record measures everything as often and
writes the new budget. Needs valgrind and binutils, which `make bench` installs.
"""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from peers import ENVIRONMENT, MANIFEST_TYPE, REPOSITORY, find, free_port, push_blob, push_manifest, tree
from program import ROOT, Options, at_least, run

BUDGET = ROOT / "bench/budget.json"
ATTEMPTS = 3


class Target:
    """What `push_blob` and `push_manifest` want to know of a server."""

    def __init__(self, port):
        self.name, self.port = "forebay", port


def environment():
    """What else the instructions depend on."""
    libraries = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n", "libc6", "libmicrohttpd12", "liblmdb0", "valgrind"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout if shutil.which("dpkg-query") else ""
    return [os.uname().machine, *libraries.split("\n")[:-1]]


def instructions(binary, requests):
    """Of a whole life of the server, with so many requests of each kind: all told, and by function."""
    with tempfile.TemporaryDirectory(prefix="forebay-budget-") as folder:
        port = free_port()
        server = Target(port)
        # Valgrind does not read the debug information that Swift writes.
        stripped = f"{folder}/forebay"
        subprocess.run([find("strip"), "--strip-debug", "-o", stripped, binary], check=True)
        command = [find("valgrind"), "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--fair-sched=yes", stripped, "serve",
                   "--listen", f"127.0.0.1:{port}", "--cache-dir", f"{folder}/cache", "--cache-size", "1GiB", "--origin",
                   f"file://{folder}/origin", "--tag-ttl", "1h", "--log-level", "warning"]
        with open(f"{folder}/log", "w") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=ENVIRONMENT)
        try:
            connection = connect(process, port, f"{folder}/log")
            for path, count in paths(server, requests):
                for _ in range(count):
                    connection.request("GET", path, headers={"Accept": MANIFEST_TYPE})
                    response = connection.getresponse()
                    response.read()
                    if response.status != 200:
                        sys.exit(f"GET {path}: status {response.status}")
            connection.close()
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)
        finally:
            for one in tree(process.pid):
                if process.poll() is None:
                    os.kill(one, signal.SIGKILL)
            process.wait()
        total = int(re.search(r"^(?:totals|summary): (\d+)", pathlib.Path(f"{folder}/out").read_text(), re.MULTILINE)[1])
        return total, by_function(f"{folder}/out")


def by_function(path):
    """Instructions of each function without those that it calls."""
    text = subprocess.run([find("callgrind_annotate"), "--threshold=99.9", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {}
    for count, name in re.findall(r"^ *([\d,]+) \([^)]*\)  (?:[^ ]*?:)?(.+?)(?: \[[^]]*\])?$", text, re.MULTILINE):
        if name != "PROGRAM TOTALS":
            found[name] = found.get(name, 0) + int(count.replace(",", ""))
    return found


def explain(kind, before, after, requests):
    """The functions that a request of this kind spends most in."""
    costs = {name: (count - before.get(name, 0)) / requests for name, count in after.items()}
    print(f"\nA {kind} spends its instructions in:")
    for name in sorted(costs, key=costs.get, reverse=True)[:12]:
        print(f"{costs[name]:10,.0f}  {name[:120]}")


def connect(process, port, log):
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/v2/")
            connection.getresponse().read()
            return connection
        except OSError:
            time.sleep(0.1)
    sys.exit(f"the server does not start in valgrind:\n{pathlib.Path(log).read_text()[-2000:]}")


KINDS = ["manifest by tag", "manifest by digest", "blob of 4 KiB", "blob of 1 MiB", "version check"]


def paths(server, requests):
    """What to ask, and how often; the same content each time, since content decides on lengths."""
    small, large = bytes(range(256)) * 16, bytes(range(256)) * 4096
    digests = [push_blob(server, content) for content in (small, large)]
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digests[0], "size": len(small)}
    config = layer | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer] * 5}).encode()
    digest = push_manifest(server, manifest, "latest")
    base = f"/v2/{REPOSITORY}"
    wanted = [f"{base}/manifests/latest", f"{base}/manifests/{digest}", f"{base}/blobs/{digests[0]}", f"{base}/blobs/{digests[1]}", "/v2/"]
    return [(path, requests[kind]) for path, kind in zip(wanted, KINDS)]


def main():
    options = Options(__doc__)
    options.add_argument("--record", action="store_true", help="write what was measured as the new budget, whatever it is")
    options.add_argument("--requests", type=at_least(1), default=200, metavar="N", help="of each kind; fewer are quicker and vary more (%(default)s)")
    options.add_argument("--tolerance", type=at_least(0, float), default=5, metavar="PERCENT", help="above the budget that pass (%(default)s)")
    options = options.parse_args()
    recorded = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    budget, here = recorded.get("instructions", {}), environment()
    is_same = recorded.get("environment") == here
    tolerance = options.tolerance / 100 * (1 if is_same else 3)
    if not is_same and not options.record:
        print(f"recorded with {', '.join(recorded.get('environment', ['nothing']))}; this is {', '.join(here)}: within {tolerance:.0%}\n")
    base = dict.fromkeys(KINDS, options.requests)
    start, functions = min((instructions(options.binary, base) for _ in range(ATTEMPTS)), key=lambda attempt: attempt[0])
    measured, failed = {}, {}
    print("| request | instructions | budget |  |\n|---|---:|---:|---|")
    for kind in KINDS:
        allowed = budget.get(kind, 0)
        for _ in range(ATTEMPTS):
            more, ends = instructions(options.binary, base | {kind: 2 * options.requests})
            measured[kind] = min(measured.get(kind, more), round((more - start) / options.requests))
            if not options.record and measured[kind] <= allowed * (1 + tolerance):
                break
        else:
            failed[kind] = ends
        verdict = "no budget" if not allowed else "too many" if measured[kind] > allowed * (1 + tolerance) else \
            "fewer" if measured[kind] < allowed * (1 - tolerance) else "kept"
        print(f"| {kind} | {measured[kind]:,} | {f'{allowed:,}' if allowed else '–'} | {verdict} |", flush=True)
    if options.record:
        BUDGET.write_text(json.dumps({"environment": here, "instructions": measured}, indent=2) + "\n")
        print(f"recorded in {BUDGET.relative_to(ROOT)}", file=sys.stderr)
    elif failed:
        for kind, ends in failed.items():
            explain(kind, functions, ends, options.requests)
        sys.exit(f"\nmore instructions than bench/budget.json allows: {', '.join(failed)}. If the change is worth it, record the new budget with "
                 "`make bench-budget` and say so in the commit; otherwise look for what is new in the list above.")
    elif (saved := statistics.median(budget.get(kind, 0) - measured[kind] for kind in KINDS)) > tolerance * min(budget.values(), default=0):
        # What the base has too much is missing in each difference.
        sys.exit(f"\nmost kinds seem to cost {saved:,.0f} instructions less than their budget, as when the base was held up each time: measure "
                 "again. If they do cost less, record the new budget with `make bench-budget`.")


if __name__ == "__main__":
    run(main)
