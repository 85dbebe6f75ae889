#!/usr/bin/env python3
"""Pushes through Forebay beside boto3's own uploads and CNCF distribution, to one S3 server, in alternating rounds.

The S3 server is the one that FOREBAY_TEST_S3_ENDPOINT (http://127.0.0.1:PORT)
and the AWS variables name, for example what `Tests/Servers/openstack-swift.sh
start` prints; without them, Tests/Servers/rgw.sh is started for the run.
Everything is on loopback. Each push has bytes of its own; what was pushed is
deleted again, outside of what is measured. Prints medians of wall time, of the
CPU of the program that pushes (the client of a registry not counted), and of the
connections to S3 that it opened, and their ratios:

- large: one blob of each size by one client.
- small: blobs of 16 KiB by threads over raw connections, so that the client
  costs next to nothing; plain PUTs, which are signed beforehand, are the hardest
  measure, and boto3's are what a program does.
- parallel: 8 pushes of 256 MiB at once, and what they take in memory.

Needs curl, python3-venv and Ceph's gateway, which `make test` installs, and for
its part docker-registry, which `make bench` does.
"""

import concurrent.futures
import datetime
import functools
import hashlib
import hmac
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from peers import RGW, start_rgw, stop_rgw
from program import ROOT, Options, at_least, run

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


def free_port():
    """One below those that outgoing connections take."""
    limit = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10000, limit if limit > 12000 else 32768)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def wait_for(process, port, log):
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{process.args[0]} ended: {log.read_text()[:500]}")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    return 0


def connections_to(port):
    """Local ports of connections to a port, open or closed within the last minute."""
    wanted = f"0100007F:{port:04X}"
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {fields[1] for fields in lines if fields[2] == wanted}


class S3:
    """Where the bucket is; signs its own requests, so that plain PUTs cost no library."""

    def __init__(self, endpoint, environment):
        self.endpoint, self.environment = endpoint, environment
        self.port = urllib.parse.urlsplit(endpoint).port
        self.region = environment.get("AWS_DEFAULT_REGION", "us-east-1")
        self.bucket = f"bench-{os.getpid()}"
        self.call("PUT", f"/{self.bucket}")

    def headers(self, method, path, query="", digest=hashlib.sha256(b"").hexdigest()):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        host = f"127.0.0.1:{self.port}"
        canonical = "\n".join([method, path, query, f"host:{host}", f"x-amz-content-sha256:{digest}", f"x-amz-date:{now}",
                               "", "host;x-amz-content-sha256;x-amz-date", digest])
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = ("AWS4" + self.environment["AWS_SECRET_ACCESS_KEY"]).encode()
        for part in [now[:8], self.region, "s3", "aws4_request", text]:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return {"Host": host, "x-amz-date": now, "x-amz-content-sha256": digest,
                "Authorization": f"AWS4-HMAC-SHA256 Credential={self.environment['AWS_ACCESS_KEY_ID']}/{scope}, "
                f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={key.hex()}"}

    def call(self, method, path, query=""):
        headers = self.headers(method, path, query)
        url = f"{self.endpoint}{path}" + (f"?{query}" if query else "")
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers)) as response:
            return response.read()

    def clear(self):
        """Deletes every object, so that the server does not fill up."""
        while True:
            listing = self.call("GET", f"/{self.bucket}", "list-type=2").decode()
            keys = [part.split("</Key>")[0] for part in listing.split("<Key>")[1:]]
            for key in keys:
                self.call("DELETE", f"/{self.bucket}/{key}")
            if "<IsTruncated>true" not in listing:
                return


class Blob:
    """A file whose bytes are new for each push."""

    def __init__(self, path, size):
        self.path, self.size, self.number = path, size, 0
        with path.open("wb") as out:
            for _ in range(size // MIB):
                out.write(os.urandom(MIB))

    def renew(self):
        self.number += 1
        with self.path.open("r+b") as out:
            out.write(os.urandom(16))
        digest = hashlib.sha256()
        with self.path.open("rb") as content:
            while piece := content.read(MIB):
                digest.update(piece)
        os.sync()
        return "sha256:" + digest.hexdigest()


def curl(*arguments):
    subprocess.run(["curl", "-fsS", "-o", "/dev/null", "-H", "Expect:", "-H", "Content-Type: application/octet-stream",
                    *arguments], check=True)


def location(port):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/bench/blobs/uploads/", data=b"", method="POST")
    with urllib.request.urlopen(request) as response:
        return urllib.parse.urljoin(f"http://127.0.0.1:{port}/", response.headers["Location"])


def added(url, digest):
    return url + ("&" if "?" in url else "?") + "digest=" + digest


def push_as_docker(port, blob, digest):
    """POST, PATCH, PUT: the digest comes last. As docker, skopeo, podman and buildah do."""
    url = location(port)
    answer = subprocess.run(
        ["curl", "-fsS", "-o", "/dev/null", "-D", "-", "-H", "Expect:", "-H", "Content-Type: application/octet-stream",
         "-X", "PATCH", "-T", str(blob.path), url], check=True, capture_output=True, text=True).stdout
    for line in answer.splitlines():
        if line.lower().startswith("location:"):
            url = urllib.parse.urljoin(url, line.split(":", 1)[1].strip())
    curl("-X", "PUT", "-H", "Content-Length: 0", added(url, digest))


def push_as_containerd(port, blob, digest):
    """POST, then PUT with the body and the digest."""
    curl("-T", str(blob.path), added(location(port), digest))


# Each line is a task: a file for one upload, or how many small objects by how many threads.
BOTO3 = """
import boto3, botocore.config, concurrent.futures, json, os, sys, time
bucket = sys.argv[2]
client = boto3.client("s3", endpoint_url=sys.argv[1], config=botocore.config.Config(max_pool_connections=64))
for line in sys.stdin:
    task = json.loads(line)
    bodies = [os.urandom(task["size"]) for _ in range(task.get("count", 0))]
    put = lambda index: client.put_object(Bucket=bucket, Key=f"{task['key']}-{index}", Body=bodies[index])
    start, cpu = time.monotonic(), sum(os.times()[:2])
    if "path" in task:
        client.upload_file(task["path"], bucket, task["key"])
    else:
        with concurrent.futures.ThreadPoolExecutor(task["clients"]) as pool:
            list(pool.map(put, range(task["count"])))
    print(json.dumps([time.monotonic() - start, sum(os.times()[:2]) - cpu]), flush=True)
"""


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder, self.processes, self.gateway = options, folder, [], None

    def start(self):
        environment = dict(os.environ)
        if "FOREBAY_TEST_S3_ENDPOINT" not in environment:
            environment = self.start_gateway(environment)
        elif not re.fullmatch(r"http://127\.0\.0\.1:\d+", environment["FOREBAY_TEST_S3_ENDPOINT"]):
            sys.exit("FOREBAY_TEST_S3_ENDPOINT is not http://127.0.0.1:PORT: only what is on loopback is measured")
        elif missing := [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if name not in environment]:
            sys.exit(f"FOREBAY_TEST_S3_ENDPOINT is set, but not {' and '.join(missing)}: set what goes with it, or unset it")
        self.environment = environment
        try:
            self.s3 = S3(environment["FOREBAY_TEST_S3_ENDPOINT"], environment)
        except OSError as error:
            sys.exit(f"the S3 server at {environment['FOREBAY_TEST_S3_ENDPOINT']} makes no bucket: {error}")

    def start_gateway(self, environment):
        environment |= {"RGW_DIR": str(self.folder / "rgw"), "RGW_PORT": "0", "RGW_SIZE": str(10 << 30),
                        "RGW_CONF": "rgw_gc_obj_min_wait = 1\nrgw_gc_processor_period = 1"}
        self.gateway = environment
        start_rgw(environment)
        lines = subprocess.run([RGW, "env"], env=environment, check=True, capture_output=True, text=True).stdout
        return environment | dict(line.removeprefix("export ").split("=", 1) for line in lines.splitlines())

    def start_forebay(self, *flags):
        port, number = free_port(), len(self.processes)
        log = self.folder / f"forebay{number}.log"
        process = subprocess.Popen(
            [self.options.binary, "serve", "--listen", f"127.0.0.1:{port}", "--cache-dir",
             str(self.folder / f"cache{number}"), "--cache-size", "6GiB", "--origin", f"s3://{self.s3.bucket}/epoch/",
             "--s3-endpoint", self.s3.endpoint, "--s3-region", self.s3.region, "--s3-addressing", "path", *flags],
            env={name: value for name, value in self.environment.items() if not name.startswith("FOREBAY_")},
            stderr=log.open("w"))
        self.processes.append(process)
        wait_for(process, port, log)
        return process, port

    def start_distribution(self):
        program = shutil.which("docker-registry")
        if not program:
            print("docker-registry is not installed: distribution is left out", file=sys.stderr)
            return None
        port = free_port()
        (self.folder / "registry.yml").write_text(f"""
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  s3: {{accesskey: {self.environment['AWS_ACCESS_KEY_ID']}, secretkey: {self.environment['AWS_SECRET_ACCESS_KEY']},
       region: {self.s3.region}, regionendpoint: "{self.s3.endpoint}", bucket: {self.s3.bucket}, secure: false, v4auth: true,
       forcepathstyle: true, rootdirectory: /distribution}}
  redirect: {{disable: true}}
http: {{addr: "127.0.0.1:{port}", secret: bench}}
""")
        log = self.folder / "registry.log"
        # Its S3 library refuses this setting, whatever it holds.
        environment = {name: value for name, value in self.environment.items() if name != "AWS_CA_BUNDLE"}
        process = subprocess.Popen([program, "serve", str(self.folder / "registry.yml")], env=environment,
                                   stderr=log.open("w"), stdout=subprocess.DEVNULL)
        self.processes.append(process)
        wait_for(process, port, log)
        return process, port

    def start_boto3(self):
        venv = self.folder / "boto3" if not self.options.boto3 else pathlib.Path(self.options.boto3)
        subprocess.run([str(ROOT / "Tests/Clients/install-boto3"), str(venv)], check=True)
        process = subprocess.Popen([str(venv / "bin/python"), "-c", BOTO3, self.s3.endpoint, self.s3.bucket], env=self.environment,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)

        def run(**task):
            """Wall seconds, CPU seconds, new connections to S3."""
            connections = connections_to(self.s3.port)
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            if not (line := process.stdout.readline()):
                sys.exit("boto3 failed, as it says above")
            return *json.loads(line), len(connections_to(self.s3.port) - connections)

        return run

    def counted(self, pid, gib, body):
        """Wall seconds, CPU seconds per GiB, new connections to S3."""
        connections, cpu, start = connections_to(self.s3.port), cpu_seconds(pid), time.monotonic()
        body()
        wall = time.monotonic() - start
        return wall, (cpu_seconds(pid) - cpu) / gib, len(connections_to(self.s3.port) - connections)

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait()
        if self.gateway:
            stop_rgw(self.gateway)

    # One blob of each size by one client.
    def large(self):
        boto3 = self.start_boto3()
        nodes = {"auto": self.start_forebay(*self.options.forebay_flags)}
        if self.options.ahead:
            for policy in ["known", "always"]:
                nodes[policy] = self.start_forebay("--push-ahead", policy, *self.options.forebay_flags)
        distribution = None if self.options.no_distribution else self.start_distribution()
        for mebibytes in self.options.mib:
            self.large_of(mebibytes, boto3, nodes, distribution)

    def large_of(self, mebibytes, boto3, nodes, distribution):
        blob = Blob(self.folder / "blob", mebibytes * MIB)
        gib = blob.size / 2**30

        def push_with_boto3(digest):
            wall, cpu, connections = boto3(path=str(blob.path), size=blob.size, key=f"boto3-{digest[7:]}")
            return wall, cpu / gib, connections

        targets = {"boto3 upload_file": push_with_boto3}

        def add(name, push, process, port):
            targets[name] = lambda digest: self.counted(process.pid, gib, lambda: push(port, blob, digest))

        for policy, (process, port) in nodes.items():
            add(f"forebay, digest last (push-ahead {policy})", push_as_docker, process, port)
        add("forebay, digest first", push_as_containerd, *nodes["auto"])
        if distribution:
            add("distribution, digest last", push_as_docker, *distribution)
        results = {name: [] for name in targets}
        for _ in range(self.options.rounds):
            for name, push in targets.items():
                results[name].append(push(blob.renew()))
                self.s3.clear()
        print(f"\n{mebibytes} MiB by one client, medians of {self.options.rounds} rounds")
        print("| who | seconds (min-max) | to boto3 | CPU s/GiB | connections, first and later rounds |\n|---|---|---|---|---|")
        base = statistics.median(wall for wall, _, _ in results["boto3 upload_file"])
        for name, rounds in results.items():
            walls, costs, connections = zip(*rounds)
            later = f"{statistics.median(connections[1:]):.0f}" if len(connections) > 1 else "-"
            print(f"| {name} | {statistics.median(walls):.2f} ({min(walls):.2f}-{max(walls):.2f}) "
                  f"| {statistics.median(walls) / base:.2f} | {statistics.median(costs):.2f} | {connections[0]}, {later} |")

    # Many small blobs by several clients, over connections of their own.
    def small(self):
        count, size, clients = self.options.blobs, 16 << 10, self.options.clients
        process, port = self.start_forebay(*self.options.forebay_flags)
        boto3 = self.start_boto3()

        def contents():
            return [os.urandom(size) for _ in range(count)]

        def plain(blobs):
            messages = []
            for blob in blobs:
                digest = hashlib.sha256(blob).hexdigest()
                path = f"/{self.s3.bucket}/plain/{digest}"
                messages.append([message("PUT", path, self.s3.headers("PUT", path, digest=digest), blob)])
            return self.s3.port, messages, (200,)

        def one_request(blobs):
            host = {"Host": f"127.0.0.1:{port}"}
            return port, [[message("POST", f"/v2/bench/blobs/uploads/?digest=sha256:{hashlib.sha256(b).hexdigest()}", host, b)]
                          for b in blobs], (201,)

        def session(blobs):
            host = {"Host": f"127.0.0.1:{port}"}
            return port, [[message("POST", "/v2/bench/blobs/uploads/", host, b""), (hashlib.sha256(b).hexdigest(), host, b)]
                          for b in blobs], (202, 201)

        ways = {"plain PUTs to S3": plain, "forebay, POST with the digest": one_request, "forebay, POST and PUT": session}
        results = {name: [] for name in [*ways, "boto3 put_object"]}
        for number in range(self.options.rounds):
            os.sync()
            results["boto3 put_object"].append(boto3(key=f"boto3/{number}", size=size, count=count, clients=clients))
            for name, way in ways.items():
                server, messages, statuses = way(contents())
                os.sync()
                connections, cpu = connections_to(self.s3.port), cpu_seconds(process.pid)
                wall = send_all(server, messages, statuses, clients)
                results[name].append((wall, cpu_seconds(process.pid) - cpu,
                                      len(connections_to(self.s3.port) - connections)))
        print(f"\n{count} blobs of {size >> 10} KiB by {clients} clients, medians of {self.options.rounds} rounds")
        print("| who | seconds (min-max) | to plain PUTs | to boto3 | CPU ms per blob | new connections to S3 |\n|---|---|---|---|---|---|")
        boto3 = statistics.median(wall for wall, _, _ in results["boto3 put_object"])
        base = statistics.median(wall for wall, _, _ in results["plain PUTs to S3"])
        for name, rounds in results.items():
            walls, costs, connections = zip(*rounds)
            print(f"| {name} | {statistics.median(walls):.2f} ({min(walls):.2f}-{max(walls):.2f}) "
                  f"| {statistics.median(walls) / base:.2f} | {statistics.median(walls) / boto3:.2f} "
                  f"| {'-' if name.startswith('plain') else format(statistics.median(costs) / count * 1000, '.2f')} "
                  f"| {connections[0]}, {statistics.median(connections[1:] or connections):.0f} |")
        self.s3.clear()

    # Several large blobs at once: what it costs in memory.
    def parallel(self):
        process, port = self.start_forebay(*self.options.forebay_flags)
        blobs = [Blob(self.folder / f"blob{number}", 256 * MIB) for number in range(8)]
        print("\n8 pushes of 256 MiB at once")
        print("| who | seconds | CPU s/GiB | RSS before, MiB | growth at most, MiB | new connections to S3 |\n|---|---|---|---|---|---|")
        for name, push in {"forebay, digest last": push_as_docker, "forebay, digest first": push_as_containerd}.items():
            digests = [blob.renew() for blob in blobs]
            before, peak, is_over = resident_bytes(process.pid), [0], threading.Event()

            def watch():
                while not is_over.wait(0.01):
                    peak[0] = max(peak[0], resident_bytes(process.pid))

            def run():
                together([functools.partial(push, port, blob, digest) for blob, digest in zip(blobs, digests)])

            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            wall, cpu, connections = self.counted(process.pid, 2, run)
            is_over.set()
            watcher.join()
            print(f"| {name} | {wall:.2f} | {cpu:.2f} | {before / MIB:.0f} | {(peak[0] - before) / MIB:.0f} | {connections} |")
            self.s3.clear()


def message(method, path, headers, body):
    lines = [f"{method} {path} HTTP/1.1"] + [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines + [f"Content-Length: {len(body)}", "", ""]).encode() + body


def answer(connection):
    """Status and headers of a response, whose body is read and dropped."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            sys.exit("the server closed a connection")
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
    missing = int(headers.get("content-length", 0)) - len(body)
    while missing > 0:
        missing -= len(connection.recv(65536))
    return int(lines[0].split()[1]), headers


def send_all(port, messages, statuses, clients):
    """Sends each list of messages in order, over as many connections as there are clients. Returns the seconds it took."""
    todo, lock = iter(messages), threading.Lock()

    def client():
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            with lock:
                steps = next(todo, None)
            if steps is None:
                return
            headers = {}
            for step, expected in zip(steps, statuses):
                if isinstance(step, tuple):
                    digest, host, body = step
                    step = message("PUT", added(headers["location"], f"sha256:{digest}"), host, body)
                connection.sendall(step)
                status, headers = answer(connection)
                if status != expected:
                    sys.exit(f"status {status} instead of {expected}")

    start = time.monotonic()
    together([client] * clients)
    return time.monotonic() - start


def together(bodies):
    """Each in a thread of its own; a failure in one is the caller's."""
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        for running in [pool.submit(body) for body in bodies]:
            running.result()


def main():
    options = Options(__doc__)
    options.add_argument("--only", choices=["large", "small", "parallel"], help="of the parts above (all)")
    options.add_argument("--mib", type=at_least(1), nargs="+", default=[1024], metavar="MIB", help="sizes of the large blobs (1024)")
    options.add_argument("--blobs", type=at_least(1), default=1000, metavar="N", help="small ones (%(default)s)")
    options.add_argument("--clients", type=at_least(1), default=16, metavar="N", help="that push small ones (%(default)s)")
    options.add_argument("--rounds", type=at_least(1), default=5, metavar="N", help="of large and small (%(default)s)")
    options.add_argument("--ahead", action="store_true", help="measure large ones with --push-ahead known and always, too")
    options.add_argument("--no-distribution", action="store_true", help="leave the slowest out")
    options.add_argument("--boto3", metavar="FOLDER", help="a virtual environment with boto3, made where it is missing (a temporary one)")
    options.add_argument("--forebay-flags", type=shlex.split, default=[], metavar="FLAGS", help="more for `forebay serve`: --forebay-flags='--tag-ttl 1h'")
    options = options.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    bench = Bench(options, folder)
    try:
        bench.start()
        for name in ["large", "small", "parallel"]:
            if options.only in (None, name):
                getattr(bench, name)()
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    run(main)
