#!/usr/bin/env python3
"""Forebay beside what one would use instead: on the same bytes, one server at a time, in alternating rounds.

Writes results.json, results.md and results.html, and for each server a file
that `forebay bench report` reads, after each case. Medians, with the slowest and
the fastest round. Large transfers are measured with `forebay bench`, requests
for a few KiB with wrk, whose client costs a tenth: on one machine, the client
takes its share from the server. nginx as a file server has each file under the
path of its request: once as it is shipped, and once with open_file_cache. A
server that fails has that as its error, and the others go on. --cases keeps
those whose name holds one of the words, and leaves the results of others where
they are, marked as older: with when, how often, with what and where they were
measured. A build is named by what the binary has of itself: its version and its
build ID, or else its SHA-256; the commit stands beside it where the binary is
this checkout's own, nothing is changed there, and no source is newer.

Needs nginx, varnishd, docker-registry, wrk, curl, readelf and Ceph's gateway,
which `make bench` installs, and 40 GiB free in TMPDIR, 12 with --short.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from clients import fetch_each, idle_connections, wrk
from peers import FAR, MANIFEST_TYPE, REPOSITORY, Bench, Failure, build, cpu_seconds, find, identity, peak_mib, push_blob, push_manifest, reset_peak
from program import ROOT, Options, at_least, run
from results import FAR_RATE, FEW, MANY, earlier, failed, for_page, markdown, merged, newest_run, reports

FAILURES = Failure, OSError, ValueError


def size_text(size):
    for unit, factor in ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10):
        if size >= factor:
            return f"{round(size / factor, 1):g} {unit}"
    return f"{size} B"


class Case:
    """What is measured: its name, its size and clients, on which servers, and how.

    prepare: before all rounds and with the case, so that servers have what they lack.
    prepare_round: before each round.
    check: behind all rounds, for each server.
    around: a context in which a server is measured; what it gives becomes part of the sample.
    times: so often as many rounds as others.
    """

    def __init__(self, name, detail, clients, servers, measure, prepare=None, prepare_round=None, check=None, around=None, times=1):
        self.name, self.detail, self.clients, self.servers, self.measure = name, detail, clients, servers, measure
        self.prepare, self.prepare_round, self.check, self.around = prepare, prepare_round, check, around or (lambda *_: contextlib.nullcontext({}))
        self.times = times
        self.is_large = not detail.endswith((" B", " KiB"))

    def __str__(self):
        return f"{self.name} · {self.detail} · {self.clients} client{'s' if self.clients != 1 else ''}"


class SideBySide:
    def __init__(self, options):
        self.options = options
        self.samples = {}  # (case, server) to a list of samples
        self.cases, self.every = [], []  # those to measure, and the names of all
        self.pushed = set()  # sizes
        self.unprepared = {}  # (case, server) to a failure
        self.seconds = 1  # of a round of short requests: where threads happen to run decides a round, so many short ones tell more

    # What is there

    TIERS = {FEW: 100, MANY: 100_000}

    def start(self, bench):
        self.bench = bench
        bench.start_s3(buckets=(REPOSITORY, "docker"))
        self.small = os.urandom(4096)
        config = json.dumps({"architecture": "amd64", "os": "linux", "seed": os.urandom(8).hex()}).encode()
        descriptor = lambda kind, content: {  # noqa: E731
            "mediaType": f"application/vnd.oci.image.{kind}", "digest": self.digest(content), "size": len(content)}
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": descriptor("config.v1+json", config), "layers": [descriptor("layer.v1.tar+gzip", self.small)] * 7}).encode()
        digest = self.digest(self.manifest)

        self.directory, self.files = bench.new_folder("directory"), bench.new_folder("files")
        self.writer = bench.forebay("writer", cache="4GiB")  # puts into the bucket what the measured ones have not seen
        self.edge = bench.forebay()
        self.local = bench.forebay("Forebay, directory", origin=self.directory)
        self.file_servers = [bench.nginx_static(self.files), bench.nginx_tuned(self.files)]
        self.cache = bench.nginx_cache()
        self.varnish = bench.varnish()
        self.face = bench.nginx_face({"latest": digest})
        far = bench.far_s3(FAR_RATE)
        far_face = bench.nginx_face({}, "far upstream registry", far.port)
        self.docker = bench.docker_registry("docker-registry", "filesystem")
        self.docker_s3 = bench.docker_registry("docker-registry, S3", "s3")
        self.docker_proxy = bench.docker_registry("docker-registry, proxy", self.face.url)
        self.caches = [self.edge, self.cache, self.varnish, self.docker_proxy]
        self.far_caches = [
            bench.forebay(self.edge.name + FAR, s3_port=far.port), bench.nginx_cache(self.cache.name + FAR, far.port),
            bench.varnish(self.varnish.name + FAR, "1G", far.port), bench.docker_registry(self.docker_proxy.name + FAR, far_face.url)]
        self.warm = [self.edge, *self.file_servers, self.cache, self.varnish, self.docker, self.docker_s3, self.docker_proxy]
        # Each with the store of its own: what the caches find in the bucket, the writer puts there.
        self.stores = [self.writer, self.local, self.docker, self.docker_s3]
        self.tiers = [bench.forebay(name, origin=bench.new_folder(f"{count} blobs")) for name, count in self.TIERS.items()]
        self.helpers = [self.face, far_face, far]
        for store in self.stores:
            for blob in config, self.small:
                push_blob(store, blob)
            push_manifest(store, self.manifest, "latest")
        bench.lay_out(self.directory, self.files)

    @staticmethod
    def digest(content):
        return "sha256:" + hashlib.sha256(content).hexdigest()

    def plan(self):
        short = self.options.short
        # Without the one that is slowest by far, there is time for more rounds.
        warm = [one for one in self.warm if one is not self.docker_s3 or not short]
        blob = f"/v2/{REPOSITORY}/blobs/{self.digest(self.small)}"
        tag, digest = (f"/v2/{REPOSITORY}/manifests/{reference}" for reference in ("latest", self.digest(self.manifest)))
        size = len(self.manifest)
        often = {"times": 1 if short else 2}
        for clients in (8,) if short else (1, 8, 64):
            self.add("warm blob", "4 KiB", clients, warm, self.with_wrk(blob, 4096), self.once_each(blob, self.small, warm), **often)
        for clients in (16,) if short else (16, 64):
            self.add("manifest by tag", size_text(size), clients, warm, self.with_wrk(tag, size), self.once_each(tag, self.manifest, warm), **often)
            self.add("manifest by digest", size_text(size), clients, warm, self.with_wrk(digest, size), self.once_each(digest, self.manifest, warm), **often)
        self.add("beside 2,000 idle connections", size_text(size), 16, [self.edge, *self.file_servers] + [self.docker] * (not short),
                 self.with_wrk(digest, size), around=self.beside_idle(digest, size, 2000), **often)
        # The one shows what the size of the index costs, the other also what the processor's caches no longer hold.
        self.add("100 blobs of the tier", "4 KiB", 16, self.tiers, self.by_chance(4096, 100), self.fill_tiers(4096), **often)
        self.add("any blob of the tier", "4 KiB", 16, self.tiers, self.by_chance(4096), self.fill_tiers(4096), **often)
        for size, count in (1 << 20, 8), (256 << 20, 1):
            for clients in (8,) if short and size < 256 << 20 else (1, 8) if short else (1, 8, 64):
                self.add("warm blob", size_text(size), clients, warm, self.with_warm_pulls(size, count), self.push_once(size, count, warm))
        size = (256 if short else 1024) << 20
        self.add_cold("cold pull", size, 1, 1)
        self.add_cold(f"cold pull from {FAR_RATE} MiB/s a connection", 256 << 20, 1, 1, self.far_caches)
        if not short:
            self.add_cold("cold pull", 16 << 20, 16, 8)
        self.add_cold("herd", 64 << 20, 1, 16)
        for size, count, clients in ((64 << 20, 2, 1),) if short else ((64 << 20, 4, 1), (64 << 20, 8, 8), (64 << 10, 200, 8)):
            self.add("push", size_text(size), clients, [self.edge, self.local, self.docker, self.docker_s3], self.with_pushes(size, count))

    def add_cold(self, name, size, count, clients, servers=None):
        self.add(name, size_text(size), clients, servers or self.caches, self.with_new_blobs(name.split()[0], size, count),
                 prepare_round=self.push_each_round(size, count), check=self.pull_again(size, count))

    def add(self, *arguments, **hooks):
        case = Case(*arguments, **hooks)
        self.every.append(str(case))
        if not self.options.cases or any(word in str(case) for word in self.options.cases):
            self.cases.append(case)

    # How to measure

    def with_wrk(self, path, size):
        return lambda case, server: wrk(self.bench.folder, server, path, size, case.clients, self.seconds)

    def beside_idle(self, path, size, count):
        @contextlib.contextmanager
        def around(case, server):
            without = self.with_wrk(path, size)(case, server)
            with idle_connections(server, path, count) as closed:
                found = {"p99 without": without["latency"]["p99"]}
                yield found
                if closed():
                    found["errors"] = {"idle connections closed": closed()}
        return around

    def by_chance(self, size, among=None):
        def measure(case, server):
            paths = self.bench.folder / f"paths-{self.TIERS[server.name]}"
            if among:
                every = paths.read_text().splitlines()
                paths = paths.with_name(f"{paths.name}-{among}")
                paths.write_text("".join(f"{path}\n" for path in every[::len(every) // among]))
            return wrk(self.bench.folder, server, "/v2/", size, case.clients, self.seconds, paths=paths)
        return measure

    def fill_tiers(self, size):
        """Puts blobs into directories by their digest, and has them pulled once."""
        def prepare(case):
            for server in self.tiers:
                count = self.TIERS[server.name]
                folder = self.bench.folder / f"{count} blobs/epoch/blobs/sha256"
                if folder.exists():
                    return
                folder.mkdir(parents=True)
                paths = []
                for _ in range(count):
                    content = os.urandom(size)
                    digest = self.digest(content)
                    (folder / digest[7:]).write_bytes(content)
                    paths.append(f"/v2/{REPOSITORY}/blobs/{digest}")
                (self.bench.folder / f"paths-{count}").write_text("\n".join(paths) + "\n")
                with self.preparing(case, server):
                    fetch_each(server, paths)
        return prepare

    def once_each(self, path, content, servers):
        def prepare(case):
            for server in servers:
                with self.preparing(case, server):
                    fetch_each(server, [path], clients=1, expected=content)
        return prepare

    def push_once(self, size, count, servers):
        """And has it pulled by each once, which compares every byte."""
        def prepare(case):
            if size in self.pushed:
                return
            for store in self.stores:
                if store in (self.writer, self.local, *servers):
                    with self.preparing(case, store):
                        self.push(store, size, count, seed=size)
            self.bench.lay_out(self.directory, self.files)
            for server in servers:
                with self.preparing(case, server):
                    self.must_pull(server, *self.kept(size, count, size), "--clients", min(count, 8))
            self.pushed.add(size)
        return prepare

    @staticmethod
    def kept(size, count, seed):
        """Flags for what was pushed of this seed."""
        return "--workloads", "warm", "--size", f"{size}B", "--count", count, "--seed", f"{seed:x}", "--no-push"

    def must_pull(self, server, *flags):
        """Each blob once, and its bytes are compared."""
        row = self.row(server, *flags, "--requests", flags[flags.index("--count") + 1])
        if row["errors"]:
            raise Failure("; ".join(row["errors"]))

    def pull_again(self, size, count):
        """What was measured without comparing it came as it was pushed."""
        def check(server):
            with self.bench.alone(server, self.helpers):
                self.must_pull(server, *self.kept(size, count, self.seed), "--clients", 1)
        return check

    def push_each_round(self, size, count):
        """Into the bucket, past the caches: they have never seen it."""
        def prepare():
            self.seed = int.from_bytes(os.urandom(7), "big")
            self.push(self.writer, size, count, self.seed)
        return prepare

    def push(self, store, size, count, seed):
        with self.bench.alone(store):
            self.bench.forebay_bench(store, "--workloads", "push", "--size", f"{size}B", "--requests", count, "--clients", min(4, count),
                                     "--duration", "10m", "--seed", f"{seed:x}", "--keep")

    def row(self, server, *flags):
        report = self.bench.forebay_bench(server, *flags, allow_failure=True)
        if not report["rows"]:
            raise Failure("; ".join(report["notes"]))
        return report["rows"][0]

    def with_warm_pulls(self, size, count):
        duration = "1s" if self.options.short else "2s"
        return lambda case, server: self.row(
            server, *self.kept(size, count, size), "--no-verify", "--clients", case.clients, "--duration", duration)

    def with_new_blobs(self, workload, size, count):
        return lambda case, server: self.row(
            server, "--workloads", workload, "--size", f"{size}B", "--requests", count, "--rounds", 1, "--clients", case.clients,
            "--seed", f"{self.seed:x}", "--no-push", "--no-verify", "--duration", "5m")

    def with_pushes(self, size, count):
        return lambda case, server: self.row(
            server, "--workloads", "push", "--size", f"{size}B", "--requests", count, "--clients", case.clients, "--duration", "5m")

    # Rounds

    def run(self):
        """Yields after each case."""
        begin = time.monotonic()
        for number, case in enumerate(self.cases):
            print(f"{time.monotonic() - begin:5.0f} s  {number + 1}/{len(self.cases)} {case}", file=sys.stderr)
            if case.prepare:
                case.prepare(case)
            for round in range(self.options.rounds * case.times):
                if case.prepare_round:
                    case.prepare_round()
                order = case.servers[round % len(case.servers):] + case.servers[:round % len(case.servers)]
                for server in order:
                    self.samples.setdefault((case, server), []).append(self.sample(case, server))
            for server in case.servers if case.check else ():
                self.check(case, server)
            yield

    def check(self, case, server):
        try:
            case.check(server)
        except FAILURES as failure:
            print(f"{server.name} fails behind {case}: {failure}", file=sys.stderr)
            self.samples[case, server][-1]["errors"][str(failure)] = 1

    @contextlib.contextmanager
    def preparing(self, case, server):
        """Who cannot be prepared fails in the case that it is measured in."""
        try:
            yield
        except FAILURES as failure:
            if server not in case.servers:
                raise Failure(f"{server.name}: {failure}") from failure
            self.unprepared[case, server] = failure

    def sample(self, case, server):
        """A failure is the server's error; the others go on."""
        try:
            if (case, server) in self.unprepared:
                raise self.unprepared[case, server]
            return self.once(case, server)
        except FAILURES as failure:
            print(f"{server.name} fails in {case}: {failure}", file=sys.stderr)
            return failed(failure)

    def once(self, case, server):
        with self.bench.alone(server, self.helpers):
            with case.around(case, server) as extra:
                reset_peak(server.pid)
                cpu, (requests, size) = cpu_seconds(server.pid), self.bench.counters.read()
                sample = case.measure(case, server)
                sample["cpu"] = cpu_seconds(server.pid) - cpu
                now = self.bench.counters.read()
                sample["requests"], sample["asked"] = now[0] - requests, (now[1] - size) / 2**20
                sample["peak"] = peak_mib(server.pid)
            return sample | extra


PROGRAMS = "nginx", "varnishd", "docker-registry", "wrk", "curl", "readelf", "radosgw"


def check_options(options):
    """What would fail only after the first case."""
    needed = (12 if options.short else 40) << 30
    if shutil.disk_usage(tempfile.gettempdir()).free < needed:
        sys.exit(f"{tempfile.gettempdir()} has less than {needed >> 30} GiB free: set TMPDIR to a place that has")
    for program in PROGRAMS:
        find(program)
    folder = options.results
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if options.cases:
            earlier(folder / "results.json")
    except OSError as error:
        sys.exit(f"results cannot be written to {folder}: {error.strerror}; name another folder with --results")
    except (AttributeError, KeyError, TypeError, ValueError):
        sys.exit(f"{folder / 'results.json'} holds no results that --cases could add to: name another folder with --results")


def main():
    options = Options(__doc__)
    options.add_argument("--short", action="store_true", help="fewer sizes and clients, fewer and shorter rounds: under 10 minutes instead of half an hour")
    options.add_argument("--rounds", type=at_least(1), metavar="N", help="of each case, in turns; without --short twice as many of short requests (5, with --short 3)")
    options.add_argument("--cases", nargs="+", metavar="WORDS", help="of which a case's name must hold one, as in results.md: 'manifest by tag' (all cases)")
    options.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results", metavar="FOLDER",
                         help="where to write (bench/results of this checkout)")
    options = options.parse_args()
    options.rounds = options.rounds or (3 if options.short else 5)
    check_options(options)
    side_by_side, started = SideBySide(options), time.time()
    measured, name = identity(options.binary), build(options.binary)
    with Bench(options.binary) as bench:
        side_by_side.start(bench)
        side_by_side.plan()
        if not side_by_side.cases:
            sys.exit(f"no case has one of these words: {' '.join(options.cases)}. There are:\n" + "\n".join(side_by_side.every))
        for _ in side_by_side.run():
            if identity(options.binary) != measured:
                sys.exit(f"{options.binary} was replaced while it was measured: measure again, or a copy of it with --binary")
            found = write(reports(side_by_side.samples, started, options.rounds, name), options)
    print(markdown(found))
    print(f"written to {options.results}", file=sys.stderr)
    if failures := {server.name for (_, server), samples in side_by_side.samples.items() if not all(one["operations"] for one in samples)}:
        sys.exit(f"failed in some rounds, see the errors: {', '.join(sorted(failures))}")


def write(found, options):
    """What was found until now; with --cases, beside the results of others."""
    folder = options.results
    folder.mkdir(parents=True, exist_ok=True)
    if options.cases:
        found = merged(found, folder / "results.json")
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "results.md").write_text(markdown(found))
    files = []
    for report in found:
        files.append(folder / (report["label"].lower().replace(",", "").replace(" ", "-") + ".json"))
        files[-1].write_text(json.dumps(for_page(report, newest_run(found)), indent=1) + "\n")
    subprocess.run([options.binary, "bench", "report", *map(str, files), "--report", str(folder / "results.html")], check=True)
    return found


if __name__ == "__main__":
    run(main)
