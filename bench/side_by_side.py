#!/usr/bin/env python3
"""Forebay beside what one would use instead: on the same bytes, one server at a time, in alternating rounds.

usage: bench/side_by_side.py [--short] [--rounds N] [--cases WORDS] [--binary .build/release/forebay] [--results bench/results]

Writes results.json, results.md and results.html, and for each server a file that `forebay bench report` reads. Medians, with the slowest and
the fastest round. Large transfers are measured with `forebay bench`, requests for a few KiB with wrk, whose client costs a tenth: on one
machine, the client takes its share from the server. --cases keeps those whose name holds one of the words, and leaves the results of others
where they are.

Needs nginx, varnishd, docker-registry, wrk, curl and Ceph's gateway, which `make bench` installs.
"""

import argparse
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from peers import MANIFEST_TYPE, REPOSITORY, ROOT, Bench, cpu_seconds, find, machine, peak_mib, push_blob, push_manifest, reset_peak

WRK_REPORT = """
done = function(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  local curve = {}
  for _, p in ipairs({1, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99, 99.5, 99.9, 99.99}) do
    table.insert(curve, string.format('{"percentile": %g, "microseconds": %d}', p, latency:percentile(p)))
  end
  table.insert(curve, string.format('{"percentile": 100, "microseconds": %d}', latency.max))
  io.write(string.format('\\nJSON{"requests": %d, "errors": %d, "bytes": %d, "seconds": %.6f, "latency": {"count": %d, "mean": %.1f, ' ..
    '"min": %d, "p50": %d, "p90": %d, "p95": %d, "p99": %d, "p999": %d, "max": %d, "curve": [%s]}}\\n',
    summary.requests, errors, summary.bytes, summary.duration / 1e6, summary.requests, latency.mean, latency.min, latency:percentile(50),
    latency:percentile(90), latency:percentile(95), latency:percentile(99), latency:percentile(99.9), latency.max,
    table.concat(curve, ", ")))
end
"""


def size_text(size):
    for unit, factor in ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


class Case:
    """What is measured: its name, its size and clients, on which servers, and how."""

    def __init__(self, name, detail, clients, servers, measure, prepare=None):
        self.name, self.detail, self.clients, self.servers = name, detail, clients, servers
        self.measure, self.prepare = measure, prepare
        self.is_large = not detail.endswith((" B", " KiB"))

    def __str__(self):
        return f"{self.name} · {self.detail} · {self.clients} client{'s' if self.clients != 1 else ''}"


class SideBySide:
    def __init__(self, options):
        self.options = options
        self.samples = {}  # (case, server) to a list of samples
        self.cases = []
        self.pushed = set()  # sizes

    # What is there

    def start(self, bench):
        self.bench = bench
        bench.start_s3(buckets=(REPOSITORY, "docker"))
        self.small = os.urandom(4096)
        config = json.dumps({"architecture": "amd64", "os": "linux", "seed": os.urandom(8).hex()}).encode()
        descriptor = lambda kind, content: {  # noqa: E731
            "mediaType": f"application/vnd.oci.image.{kind}", "digest": self.digest(content), "size": len(content)}
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": descriptor("config.v1+json", config), "layers": [descriptor("layer.v1.tar+gzip", self.small)]}).encode()
        digest = self.digest(self.manifest)

        directory = bench.new_folder("directory")
        self.writer = bench.forebay("writer", cache="4GiB")  # puts into the bucket what the measured ones have not seen
        self.edge = bench.forebay()
        self.local = bench.forebay("Forebay, directory", origin=directory)
        self.static = bench.nginx_static(directory)
        self.cache = bench.nginx_cache()
        self.varnish = bench.varnish()
        self.face = bench.nginx_face({"latest": digest})
        self.docker = bench.docker_registry("docker-registry", "filesystem")
        self.docker_s3 = bench.docker_registry("docker-registry, S3", "s3")
        self.docker_proxy = bench.docker_registry("docker-registry, proxy", self.face.url)
        self.caches = [self.edge, self.cache, self.varnish, self.docker_proxy]
        self.warm = [self.edge, self.static, self.cache, self.varnish, self.docker, self.docker_s3, self.docker_proxy]
        # Each with the store of its own: what the caches find in the bucket, the writer puts there.
        self.stores = [self.writer, self.local, self.docker, self.docker_s3]
        self.helpers = [self.face]
        for store in self.stores:
            for blob in config, self.small:
                push_blob(store, blob)
            push_manifest(store, self.manifest, "latest")

    @staticmethod
    def digest(content):
        return "sha256:" + hashlib.sha256(content).hexdigest()

    def plan(self):
        short = self.options.short
        blob = f"/v2/{REPOSITORY}/blobs/{self.digest(self.small)}"
        manifests = f"/v2/{REPOSITORY}/manifests/"
        for clients in (8,) if short else (1, 8, 64):
            self.add("warm blob", "4 KiB", clients, self.warm, self.with_wrk(blob, 4096))
        for clients in (16,) if short else (1, 16, 64):
            size = len(self.manifest)
            self.add("manifest by tag", size_text(size), clients, self.warm, self.with_wrk(manifests + "latest", size))
            self.add("manifest by digest", size_text(size), clients, self.warm,
                     self.with_wrk(manifests + self.digest(self.manifest), size))
        for size, count in (1 << 20, 8), (256 << 20, 1):
            for clients in (8,) if short and size < 256 << 20 else (1, 8) if short else (1, 8, 64):
                # Without the one that is slowest by far, there is time for more rounds.
                servers = [one for one in self.warm if one is not self.docker_s3 or not short or size < 256 << 20]
                self.add("warm blob", size_text(size), clients, servers, self.with_warm_pulls(size, count),
                         self.push_once(size, count))
        size = (256 if short else 1024) << 20
        self.add("cold pull", size_text(size), 1, self.caches, self.with_new_blobs("cold", size, 1), self.push_each_round(size, 1))
        if not short:
            self.add("cold pull", "16 MiB", 8, self.caches, self.with_new_blobs("cold", 16 << 20, 16), self.push_each_round(16 << 20, 16))
        self.add("herd", "64 MiB", 16, self.caches, self.with_new_blobs("herd", 64 << 20, 1), self.push_each_round(64 << 20, 1))
        for size, count, clients in ((64 << 20, 2, 1),) if short else ((64 << 20, 4, 1), (64 << 20, 8, 8), (64 << 10, 200, 8)):
            self.add("push", size_text(size), clients, [self.edge, self.local, self.docker, self.docker_s3], self.with_pushes(size, count))

    def add(self, *arguments):
        case = Case(*arguments)
        if not self.options.cases or any(word in str(case) for word in self.options.cases):
            self.cases.append(case)

    # How to measure

    def with_wrk(self, path, size):
        script = self.bench.folder / "report.lua"
        script.write_text(WRK_REPORT)

        def measure(case, server):
            seconds = 1 if self.options.short else 3
            command = [find("wrk"), "-t", str(min(2, case.clients)), "-c", str(case.clients), "-d", f"{seconds}s",
                       "-H", f"Accept: {MANIFEST_TYPE}", "-s", str(script), server.url + path]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            found = json.loads(output[output.index("JSON{") + 4:])
            return {"operations": found["requests"] - found["errors"], "bytes": found["requests"] * size, "seconds": found["seconds"],
                    "latency": found["latency"], "timeline": [], "clientCPUSeconds": 0, "loop": "closed",
                    "errors": {"failed": found["errors"]} if found["errors"] else {}}
        return measure

    def push_once(self, size, count):
        def prepare(_):
            if size not in self.pushed:
                for store in self.stores:
                    self.push(store, size, count, seed=size)
            self.pushed.add(size)
        return prepare

    def push_each_round(self, size, count):
        """Into the bucket, past the caches: they have never seen it."""
        def prepare(_):
            self.seed = int.from_bytes(os.urandom(7), "big")
            self.push(self.writer, size, count, self.seed)
        return prepare

    def push(self, store, size, count, seed):
        with self.bench.alone(store):
            self.bench.forebay_bench(store, "--workloads", "push", "--size", f"{size}B", "--requests", count, "--clients", min(4, count),
                                     "--duration", "10m", "--seed", f"{seed:x}", "--keep")

    def row(self, server, *flags):
        return self.bench.forebay_bench(server, *flags, allow_failure=True)["rows"][0]

    def with_warm_pulls(self, size, count):
        return lambda case, server: self.row(
            server, "--workloads", "warm", "--size", f"{size}B", "--count", count, "--clients", case.clients, "--seed", f"{size:x}",
            "--no-push", "--no-verify", "--duration", "500ms" if self.options.short else "3s")

    def with_new_blobs(self, workload, size, count):
        return lambda case, server: self.row(
            server, "--workloads", workload, "--size", f"{size}B", "--requests", count, "--rounds", 1, "--clients", case.clients,
            "--seed", f"{self.seed:x}", "--no-push", "--no-verify", "--duration", "5m")

    def with_pushes(self, size, count):
        return lambda case, server: self.row(
            server, "--workloads", "push", "--size", f"{size}B", "--requests", count, "--clients", case.clients, "--duration", "5m")

    # Rounds

    def run(self):
        for number, case in enumerate(self.cases):
            print(f"{number + 1}/{len(self.cases)} {case}", file=sys.stderr)
            if case.name in ("warm blob", "manifest by tag", "manifest by digest"):
                if case.prepare:
                    case.prepare(0)
                for server in case.servers:
                    self.once(case, server)  # a cache fetches here what it lacks
            for round in range(self.options.rounds):
                if case.prepare and case.name in ("cold pull", "herd"):
                    case.prepare(round)
                order = case.servers[round % len(case.servers):] + case.servers[:round % len(case.servers)]
                for server in order:
                    self.samples.setdefault((case, server), []).append(self.once(case, server))

    def once(self, case, server):
        with self.bench.alone(server, self.helpers):
            self.bench.relay.reset()
            reset_peak(server.pid)
            before = cpu_seconds(server.pid)
            sample = case.measure(case, server)
            sample["cpu"] = cpu_seconds(server.pid) - before
            sample["peak"] = peak_mib(server.pid)
            sample["requests"], sample["relayed"] = self.bench.relay.requests, self.bench.relay.bytes / 2**20
            return sample

    # Results

    def reports(self):
        reports = []
        for server in dict.fromkeys(server for case in self.cases for server in case.servers):
            rows = [row(case, self.samples[case, server]) for case in self.cases if server in case.servers]
            about = machine() | {"server": server.version, "rounds": str(self.options.rounds)}
            reports.append({
                "format": 1, "label": server.name, "target": server.name, "repository": REPOSITORY, "seed": "", "program": "make bench",
                "startedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)), "machine": about, "isVerified": False,
                "isInterrupted": False, "notes": [], "rows": rows})
        return reports


def figure(name, values):
    return {"name": name, "value": round(statistics.median(values), 4), "low": round(min(values), 4), "high": round(max(values), 4)}


def row(case, samples):
    """The round with the median speed, and the medians of all."""
    speed = lambda sample: sample["operations"] / max(sample["seconds"], 1e-9)  # noqa: E731
    good = sorted(samples, key=speed)
    middle = good[len(good) // 2]
    result = {"name": case.name, "detail": case.detail, "clients": case.clients, "loop": middle["loop"], "operations": middle["operations"],
              "errors": {}, "bytes": middle["bytes"], "seconds": middle["seconds"], "timeline": middle["timeline"],
              "clientCPUSeconds": middle["clientCPUSeconds"], "mibPerSecond": middle["bytes"] / max(middle["seconds"], 1e-9) / 2**20,
              "operationsPerSecond": speed(middle)}
    for sample in samples:
        for kind, count in sample["errors"].items():
            result["errors"][kind] = result["errors"].get(kind, 0) + count
    for key in "latency", "measuredLatency":
        if middle.get(key):
            result[key] = middle[key]
    figures = [figure("MiB/s", [s["bytes"] / max(s["seconds"], 1e-9) / 2**20 for s in samples]),
               figure("operations/s", [speed(s) for s in samples])]
    timed = [s["latency"] for s in samples if s.get("latency")]
    if timed:
        figures += [figure(f"{name} ms", [latency[name] / 1000 for latency in timed]) for name in ("p50", "p99")]
    if not middle["operations"]:
        pass  # nothing to divide by; the errors tell
    elif case.is_large:
        figures.append(figure("server CPU s/GiB", [s["cpu"] / max(s["bytes"] / 2**30, 1e-9) for s in samples]))
    else:
        figures.append(figure("server CPU µs/request", [s["cpu"] * 1e6 / max(s["operations"], 1) for s in samples]))
    figures += [figure("peak RSS MiB", [s["peak"] for s in samples]), figure("origin requests", [s["requests"] for s in samples]),
                figure("origin MiB", [s["relayed"] for s in samples])]
    result["figures"] = figures
    return result


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def markdown(reports):
    first = reports[0]["machine"]
    lines = ["# Forebay beside others", "",
             f"{first['processor']}, {first['cores']} cores, {first['memory']}, {first['kernel']}. Client, server and origin share the machine, on "
             f"loopback. Medians of {first['rounds']} alternating rounds (slowest–fastest). Origin figures are those of the median round's "
             "requests and bytes at the S3 server; RSS is the sum over a server's processes.", ""]
    lines += [f"- {report['label']}: {report['machine']['server']}" for report in reports]
    cases = dict.fromkeys((row["name"], row["detail"], row["clients"]) for report in reports for row in report["rows"])
    for name, detail, clients in cases:
        rows = [(report["label"], row) for report in reports for row in report["rows"]
                if (row["name"], row["detail"], row["clients"]) == (name, detail, clients)]
        names = list(dict.fromkeys(f["name"] for _, row in rows for f in row["figures"]))
        names.remove("MiB/s" if detail.endswith((" B", " KiB")) else "operations/s")
        lines += ["", f"## {name}, {detail}, {clients} client{'s' if clients != 1 else ''}", "",
                  "| server | " + " | ".join(names) + " | errors |", "|---|" + "---:|" * (len(names) + 1)]
        for label, row in rows:
            cells = {f["name"]: f"{number(f['value'])} ({number(f['low'])}–{number(f['high'])})" for f in row["figures"]}
            lines.append(f"| {label} | " + " | ".join(cells.get(one, "–") for one in names) + f" | {sum(row['errors'].values())} |")
    return "\n".join(lines) + "\n"


def merged(reports, folder):
    """With the rows of earlier runs that this one did not measure."""
    def key(row):
        return row["name"], row["detail"], row["clients"]
    path = folder / "results.json"
    earlier = {report["label"]: report for report in json.loads(path.read_text())} if path.exists() else {}
    for report in reports:
        old = earlier.pop(report["label"], None)
        if old:
            new = {key(row) for row in report["rows"]}
            report["rows"] = [row for row in old["rows"] if key(row) not in new] + report["rows"]
    return reports + list(earlier.values())


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--short", action="store_true", help="fewer sizes and clients, shorter rounds: under 10 minutes")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--cases", nargs="+", help="words of which a case's name must hold one; results of others stay")
    options.add_argument("--binary", default=str(ROOT / ".build/release/forebay"))
    options.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results")
    options = options.parse_args()
    side_by_side = SideBySide(options)
    side_by_side.started = time.time()
    with Bench(options.binary) as bench:
        side_by_side.start(bench)
        side_by_side.plan()
        side_by_side.run()
        reports = side_by_side.reports()
    folder = options.results
    folder.mkdir(parents=True, exist_ok=True)
    if options.cases:
        reports = merged(reports, folder)
    (folder / "results.json").write_text(json.dumps(reports, indent=1) + "\n")
    (folder / "results.md").write_text(markdown(reports))
    files = []
    for report in reports:
        files.append(folder / (report["label"].lower().replace(", ", "-").replace(" ", "-") + ".json"))
        files[-1].write_text(json.dumps(report, indent=1) + "\n")
    subprocess.run([options.binary, "bench", "report", *map(str, files), "--report", str(folder / "results.html")], check=True)
    print(markdown(reports))
    print(f"written to {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
