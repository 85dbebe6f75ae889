#!/usr/bin/env python3
"""Restart with many blobs on disk: time until a cached blob is answered, memory, and what a lookup costs.

usage: bench/restart.py --folder DIR [--blobs 1000 1000000] [--rounds 5] [--binary .build/release/forebay] [--tier .build/release/TierBench]

Needs both products built for release: `swift build -c release --product TierBench`. DIR keeps the caches (real files of 8 bytes, some 4 GiB
for a million) for the next time. "ready" is from the start of the process to the first whole answer with a cached blob; RSS is the kernel's
VmRSS then, with its anonymous part; "after a kill" is the same after SIGKILL, when each blob is hashed once before it is served and orphans
are looked for in the background. Lookups are of the disk tier alone: index, open and fstat for a hit, the index for a miss.
"""

import argparse
import hashlib
import http.client
import pathlib
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def memory(pid):
    """VmRSS and RssAnon in MiB."""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))


def start(binary, cache, origin, number):
    """Seconds until the blob is answered, RSS then, and the process."""
    port = free_port()
    content = struct.pack("<Q", number)
    path = f"/v2/bench/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    began = time.monotonic()
    process = subprocess.Popen(
        [binary, "serve", "--listen", f"127.0.0.1:{port}", "--cache-dir", cache, "--cache-size", "100GiB",
         "--scrub-interval", "0s", "--origin", f"file://{origin}"], stderr=subprocess.DEVNULL)
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            break
        except OSError:
            time.sleep(0.001)
    took = time.monotonic() - began
    assert answer.status == 200 and body == content, (answer.status, body)
    return took, memory(process.pid), process


def median(rounds, place):
    return statistics.median(entry[place] for entry in rounds)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--folder", required=True)
    options.add_argument("--blobs", type=int, nargs="+", default=[1000, 1_000_000])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--binary", default=".build/release/forebay")
    options.add_argument("--tier", default=".build/release/TierBench")
    options = options.parse_args()
    origin = tempfile.mkdtemp(prefix="forebay-origin-")
    caches = {count: f"{options.folder}/{count}" for count in options.blobs}
    for count, cache in caches.items():
        if not pathlib.Path(cache).exists():
            subprocess.run([options.tier, "fill", cache, str(count)], check=True)
    results = {count: {"clean": [], "killed": []} for count in options.blobs}
    for number in range(options.rounds):
        for count, cache in caches.items():
            took, (rss, anonymous), process = start(options.binary, cache, origin, number)
            results[count]["clean"].append((took, rss, anonymous))
            process.send_signal(signal.SIGKILL)
            process.wait()
            took, (rss, anonymous), process = start(options.binary, cache, origin, number + 100)
            results[count]["killed"].append((took, rss, anonymous))
            # An orderly stop ends the look for orphans, and such a start is no clean one: let it come to its end.
            time.sleep(0.2 + count / 100_000)
            process.terminate()
            process.wait()
    print(f"medians of {options.rounds} rounds\n| blobs | start | ready ms (max) | RSS MiB | of it anonymous |\n|---|---|---|---|---|")
    for count in options.blobs:
        for kind, rounds in results[count].items():
            print(f"| {count:,} | {kind} | {median(rounds, 0) * 1000:.0f} ({max(entry[0] for entry in rounds) * 1000:.0f}) "
                  f"| {median(rounds, 1):.0f} | {median(rounds, 2):.0f} |")
    for count, cache in caches.items():
        print(f"\n{count:,} blobs, the tier alone:")
        print(subprocess.run([options.tier, "open", cache, str(count)], check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
