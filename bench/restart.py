#!/usr/bin/env python3
"""Restart with many blobs on disk: time until a cached blob is answered, memory, and what a lookup costs.

`make bench-restart` builds what it needs, installs wrk, and runs it. The caches
are real files of 8 bytes (some 4 GiB for a million); making them takes most of
the time, and with --folder they are kept for the next run. Prints:

- ready: from the start of the process to the first whole answer with a cached
  blob, after an orderly stop and after SIGKILL, when each blob is hashed once
  before it is served and orphans are looked for in the background. RSS is the
  kernel's VmRSS then.
- lookup: of the disk tier alone, for random blobs: index, open and fstat for a
  hit, the index for a miss. "file" is what the kernel takes for open, fstat and
  close of the same files without any index.
- requests: whole GETs by 8 clients, of a thousand blobs and of random ones among
  all. RSS afterwards in two parts: what the process holds, and pages of the
  index that it has read, which are the kernel's page cache and go when memory is
  wanted.
"""

import atexit
import hashlib
import http.client
import pathlib
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from peers import find, free_port
from program import Options, at_least, run

UNCLEAN = b"the last stop was not clean"

WRK = """local paths, at = {}, 0
function init(args) for line in io.lines(args[1]) do paths[#paths + 1] = line end end
function request() at = at % #paths + 1; return wrk.format("GET", paths[at]) end
"""


def content(number):
    return struct.pack("<Q", number)


def path(number):
    return f"/v2/bench/blobs/sha256:{hashlib.sha256(content(number)).hexdigest()}"


def resident(pid):
    """VmRSS in MiB."""
    return resident_part(pid, "VmRSS")


def resident_part(pid, name):
    return int(re.search(rf"{name}:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def remember(cache, restores=False):
    """Keeps the index as an orderly stop left it, or puts it back: after a kill the first hit of each blob would hash it."""
    for name in ("index/data.mdb", "clean"):
        pair = [f"{cache}/{name}", f"{cache}.{name.replace('/', '-')}"]
        shutil.copyfile(*(reversed(pair) if restores else pair))


class Server:
    def __init__(self, binary, cache, scratch):
        self.port = free_port()
        self.log = tempfile.TemporaryFile()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--cache-dir", cache, "--cache-size", "100GiB",
             "--scrub-interval", "0s", "--origin", f"file://{scratch}/origin"], stderr=self.log)
        atexit.register(self.end, signal.SIGKILL)

    def first_answer(self, number):
        """Seconds since the start."""
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port)
                connection.request("GET", path(number))
                answer = connection.getresponse()
                body = answer.read()
                break
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"the server ended: {self.told().decode(errors='replace')}")
                time.sleep(0.001)
        took = time.monotonic() - self.began
        if answer.status != 200 or body != content(number):
            sys.exit(f"GET {path(number)}: status {answer.status}, {len(body)} bytes, not the blob")
        return took

    def told(self):
        self.log.seek(0)
        return self.log.read()

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait()
        atexit.unregister(self.end)


def round_of(binary, cache, count, scratch):
    """Ready and RSS after an orderly stop, then after a kill."""
    server = Server(binary, cache, scratch)
    took, clean = server.first_answer(random.randrange(count)), UNCLEAN not in server.told()
    if not clean:
        sys.exit(f"{cache}: the stop before was not an orderly one")
    results = {"stop": (took, resident(server.process.pid))}
    server.end(signal.SIGKILL)
    server = Server(binary, cache, scratch)
    results["kill"] = (server.first_answer(random.randrange(count)), resident(server.process.pid))
    # An orderly stop breaks off the look for orphans, and the next start is then no clean one: let it come to its end.
    time.sleep(1 + count / 100_000)
    server.end(signal.SIGTERM)
    return results


def requests_per_second(binary, cache, count, scratch):
    """Of a thousand blobs, and of any; then the resident memory, anonymous and of files."""
    pathlib.Path(f"{scratch}/random.lua").write_text(WRK)
    server = Server(binary, cache, scratch)
    server.first_answer(0)
    some = random.sample(range(count), min(count, 1000))
    rates = []
    for numbers in random.choices(some, k=50_000), random.choices(range(count), k=50_000):
        pathlib.Path(f"{scratch}/paths").write_text("\n".join(path(number) for number in numbers))
        command = [find("wrk"), "-t1", "-c8", "-d4", "-s", f"{scratch}/random.lua", f"http://127.0.0.1:{server.port}", "--", f"{scratch}/paths"]
        # The first run brings the files' names into the kernel's memory.
        text = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)][1]
        if "Non-2xx" in text:
            sys.exit(f"some requests failed:\n{text}")
        rates.append(float(re.search(r"Requests/sec:\s*([\d.]+)", text)[1]))
    memory = [resident_part(server.process.pid, name) for name in ("RssAnon", "RssFile")]
    server.end(signal.SIGTERM)
    return rates, memory


def lookups(tier, cache, count):
    text = subprocess.run([tier, "open", cache, str(count)], check=True, capture_output=True, text=True).stdout
    return {name: float(re.search(rf"^{name} us ([\d.]+)", text, re.M)[1]) for name in ("hit", "miss", "file")}


def median(rounds, kind, place):
    return statistics.median(entry[kind][place] for entry in rounds)


def main():
    options = Options(__doc__)
    options.add_program("--tier", "TierBench", "make bench-restart", "what fills caches and looks blobs up")
    options.add_argument("--folder", type=pathlib.Path, help="where caches are kept (a temporary one, removed at the end)")
    options.add_argument("--blobs", type=at_least(1), nargs="+", default=[1000, 100_000, 1_000_000], metavar="N", help="in a cache, one cache for each (1000 100000 1000000)")
    options.add_argument("--rounds", type=at_least(1), default=3, metavar="N", help="of restarts (%(default)s)")
    options = options.parse_args()
    find("wrk")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="forebay-restart-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    folder = options.folder or scratch
    folder.mkdir(parents=True, exist_ok=True)
    print("| blobs | ready ms after a stop (max) | after a kill (max) | RSS MiB | hit us | file us | miss us | requests/s, of 1,000 blobs | of any | RSS MiB after them: own, page cache |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    first = None
    for count in options.blobs:
        cache = f"{folder}/{count}"
        if not pathlib.Path(cache).exists():
            subprocess.run([options.tier, "fill", cache, str(count)], check=True, stdout=sys.stderr)
            remember(cache)
        if not pathlib.Path(f"{cache}.clean").exists():
            sys.exit(f"{cache} was not filled to the end: remove it, and run again")
        remember(cache, restores=True)
        cost = lookups(options.tier, cache, count)
        rates, after = requests_per_second(options.binary, cache, count, scratch)
        rounds = [round_of(options.binary, cache, count, scratch) for _ in range(options.rounds)]
        first = first or (cost, rates)
        ready = [f"{median(rounds, kind, 0) * 1000:.0f} ({max(entry[kind][0] for entry in rounds) * 1000:.0f})" for kind in ("stop", "kill")]
        rss = max(median(rounds, kind, 1) for kind in ("stop", "kill"))
        costs = [f"{cost[name]:.2f} ({cost[name] / first[0][name]:.2f}x)" for name in ("hit", "file", "miss")]
        speeds = [f"{rate:,.0f} ({base / rate:.2f}x)" for rate, base in zip(rates, first[1])]
        print(f"| {count:,} | {ready[0]} | {ready[1]} | {rss:.0f} | {' | '.join(costs)} | {' | '.join(speeds)} | {after[0]:.0f}, {after[1]:.0f} |", flush=True)


if __name__ == "__main__":
    run(main)
