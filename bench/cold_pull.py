#!/usr/bin/env python3
"""Cold pulls through Forebay from an origin of known speed, and what slow clients cost.

The origin is a small S3 server of this script: it serves one blob, with ranges,
each connection at a limited rate, and counts its bytes. Everything runs on
loopback, in a temporary folder, which takes 3 GiB. Prints, as medians:

- coalescing: 64 clients on one cold blob, beside one client: origin bytes, time.
- first-byte: time to the first byte of a cold blob, beside that of the origin.
- parallel: a cold pull from an origin that limits each connection to 40 MB/s.
- slow: the server's resident memory with 1,000 clients that read 100 KB/s, of a
  warm and of a cold blob.
- oversize: 50 clients at once on a blob that is larger than the cache: origin
  bytes, time, resident memory.
"""

import atexit
import hashlib
import multiprocessing
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from peers import free_port
from program import Options, at_least, run

SCRATCH = bytearray(1 << 20)


def discard(connection):
    """Takes bytes off a connection without copying them; how many."""
    return connection.recv_into(SCRATCH, len(SCRATCH), socket.MSG_TRUNC)


class Origin:
    """Answers GET and HEAD of anything that ends in the blob's name; everything else is not there. Runs as a process of its own."""

    def __init__(self, path, name, rate, delay=0.0):
        self.path, self.name, self.rate, self.delay = path, name, rate, delay
        self.bytes, self.requests = multiprocessing.Value("q", 0), multiprocessing.Value("q", 0)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.process = multiprocessing.Process(target=self.run, daemon=True)
        self.process.start()

    def run(self):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as `stop` ends it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 << 10)
        blob, buffer = open(self.path, "rb"), b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    buffer += piece
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                self.answer(connection, blob, head.decode("latin-1"))
        except OSError:
            pass
        finally:
            connection.close()
            blob.close()

    def answer(self, connection, blob, head):
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        if "list-type" in target:
            body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            return connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        if method == "PUT" or not target.split("?")[0].endswith(self.name):
            status = "403 Forbidden" if method == "PUT" else "404 Not Found"
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            raise OSError
        size = os.fstat(blob.fileno()).st_size
        wanted = re.search(r"\r\nRange: bytes=(\d+)-(\d*)", head, re.IGNORECASE)
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2] or size), size - 1) if wanted else size - 1
        status = f"206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}" if wanted else "200 OK"
        time.sleep(self.delay)
        connection.sendall(f"HTTP/1.1 {status}\r\nETag: \"e\"\r\nContent-Length: {last - first + 1}\r\n\r\n".encode())
        with self.requests.get_lock():
            self.requests.value += 1
        if method == "GET":
            self.send(connection, blob, first, last + 1)

    def send(self, connection, blob, offset, end):
        start, sent, step = time.monotonic(), 0, 64 << 10
        while offset < end:
            count = os.sendfile(connection.fileno(), blob.fileno(), offset, min(step, end - offset))
            offset, sent = offset + count, sent + count
            with self.bytes.get_lock():
                self.bytes.value += count
            early = start + sent / self.rate - time.monotonic()
            if early > 0:
                time.sleep(early)

    def reset(self):
        self.bytes.value = self.requests.value = 0

    def stop(self):
        self.process.terminate()
        self.process.join()
        self.listener.close()


class Forebay:
    """A server with an empty cache in front of an origin."""

    def __init__(self, binary, folder, origin, *settings):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "EPOCH_", "FOREBAY_"))}
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--cache-dir", str(self.folder / "cache"), "--cache-size", "4GiB",
             "--origin", "s3://bench/", "--s3-endpoint", f"http://127.0.0.1:{origin.port}", *settings],
            stderr=(self.folder / "log").open("w"), env=environment)
        atexit.register(self.stop)
        self.wait()

    def wait(self):
        while self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"the server does not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    @property
    def memory(self):
        """Resident, in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)


def request(port, path):
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    return connection


def head_of(connection):
    """Reads the head; returns the length that it announces and how much of the body came along."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            sys.exit("the connection broke before an answer")
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    if not re.match(rb"HTTP/1.1 20[06]", head):
        sys.exit(f"unexpected answer: {head[:200]!r}")
    return int(re.search(rb"Content-Length: (\d+)", head, re.IGNORECASE)[1]), len(body)


def first_byte(port, path):
    """Seconds from the request to the first byte of the body, on a new connection."""
    start = time.perf_counter()
    with request(port, path) as connection:
        _, body = head_of(connection)
        if not body:
            connection.recv(1)
        return time.perf_counter() - start


def pull(port, path, count):
    """Seconds until the last of `count` clients has the whole blob. One thread drains them all, so that they cost little beside the server."""
    start, left = time.monotonic(), {}
    poll = select.epoll()
    for _ in range(count):
        connection = request(port, path)
        left[connection.fileno()] = [connection, None]
        poll.register(connection, select.EPOLLIN)
    while left:
        for descriptor, _ in poll.poll():
            client = left[descriptor]
            if client[1] is None:
                length, body = head_of(client[0])
                client[1] = length - body
            else:
                got = discard(client[0]) if client[1] else 0
                if not got:
                    sys.exit("a body broke off")
                client[1] -= got
            if not client[1]:
                poll.unregister(descriptor)
                client[0].close()
                del left[descriptor]
    return time.monotonic() - start


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder

    def blob(self, mib):
        """A file of random bytes; its path, digest and size."""
        path, hashed = self.folder / f"blob-{mib}", hashlib.sha256()
        with path.open("wb") as out:
            for _ in range(mib):
                piece = os.urandom(1 << 20)
                hashed.update(piece)
                out.write(piece)
        return path, hashed.hexdigest(), mib << 20

    def forebay(self, origin, *settings):
        return Forebay(self.options.binary, self.folder, origin, *settings)

    def coalescing(self):
        path, name, size = self.blob(1024)
        rate = self.options.coalescing_rate * 10**6
        # The limit is that of each part's connection: eight of them together.
        origin = Origin(path, name, rate / 8)
        results = {1: [], 64: []}
        ratios = []
        for _ in range(self.options.rounds_large):
            for clients in results:
                server = self.forebay(origin)
                origin.reset()
                results[clients].append(pull(server.port, f"/v2/bench/blobs/sha256:{name}", clients))
                ratios.append(origin.bytes.value / size)
                server.stop()
        one, many = (statistics.median(results[clients]) for clients in (1, 64))
        print(f"| 1 GiB cold, origin at {rate / 1e6:.0f} MB/s: 1 client, 64 clients | {one:.2f} s, {many:.2f} s |")
        print(f"| ratio of the times (goal 1.15) | {many / one:.3f} |")
        print(f"| origin bytes / blob, worst of {len(ratios)} pulls (goal 1.02) | {max(ratios):.4f} |")
        origin.stop()

    def first_byte(self):
        path, name, _ = self.blob(64)
        for delay in (0.0, 0.03):
            origin = Origin(path, name, 10**9, delay)
            direct, through = [], []
            for _ in range(self.options.rounds * 4):
                server = self.forebay(origin)
                # What a node does at its start does not count, nor its first connection.
                time.sleep(0.05)
                direct.append(first_byte(origin.port, f"/{name}"))
                through.append(first_byte(server.port, f"/v2/bench/blobs/sha256:{name}"))
                server.stop()
            a, b = statistics.median(direct) * 1e3, statistics.median(through) * 1e3
            print(f"| first byte, origin thinks {delay * 1e3:.0f} ms: origin, Forebay | {a:.2f} ms, {b:.2f} ms |")
            print(f"| goal: at most 1.15 times + 5 ms | {1.15 * a + 5:.2f} ms |")
            origin.stop()

    def parallel(self):
        path, name, size = self.blob(256)
        origin = Origin(path, name, 40 * 10**6)
        speeds = []
        for _ in range(self.options.rounds):
            server = self.forebay(origin)
            speeds.append(size / pull(server.port, f"/v2/bench/blobs/sha256:{name}", 1) / 1e6)
            server.stop()
        print(f"| 256 MiB cold, 40 MB/s a connection (goal 160 MB/s) | {statistics.median(speeds):.0f} MB/s |")
        origin.stop()

    def slow(self):
        path, name, size = self.blob(256)
        for kind in ("cold", "warm"):
            origin = Origin(path, name, 2 * 10**6 if kind == "cold" else 10**9)
            server = self.forebay(origin, "--fill-parts-in-flight", "4")
            target = f"/v2/bench/blobs/sha256:{name}"
            if kind == "warm":
                pull(server.port, target, 1)
                time.sleep(1)
            before = server.memory
            peak = self.crawl(server, target, self.options.slow_clients)
            print(f"| {self.options.slow_clients} clients at 100 KB/s, {kind}: RSS before, peak (goal 150 MiB) | {before:.0f}, {peak:.0f} MiB |")
            server.stop()
            origin.stop()

    def oversize(self):
        path, name, size = self.blob(256)
        origin = Origin(path, name, 10**9)
        server = self.forebay(origin, "--cache-size", "128MiB")
        before, peaks, done = server.memory, [], threading.Event()

        def watch():
            while not done.wait(0.05):
                peaks.append(server.memory)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        seconds = pull(server.port, f"/v2/bench/blobs/sha256:{name}", 50)
        done.set()
        watcher.join()
        print(f"| 50 clients on 256 MiB, cache of 128 MiB: time, origin bytes / blob | {seconds:.2f} s, {origin.bytes.value / size:.3f} |")
        print(f"| the same: RSS before, peak | {before:.0f}, {max(peaks):.0f} MiB |")
        server.stop()
        origin.stop()

    def crawl(self, server, target, count):
        """Reads at 100 KB/s from each of so many connections for a while; the server's largest resident memory."""
        clients, peak = [], 0
        for _ in range(count):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            connection.setblocking(False)
            clients.append(connection)
        end = time.monotonic() + self.options.slow_seconds
        while time.monotonic() < end:
            tick = time.monotonic()
            for connection in clients:
                try:
                    connection.recv_into(SCRATCH, 25_000, socket.MSG_TRUNC)
                except BlockingIOError:
                    pass
            peak = max(peak, server.memory)
            time.sleep(max(0, tick + 0.25 - time.monotonic()))
        for connection in clients:
            connection.close()
        return peak


def main():
    options = Options(__doc__)
    options.add_argument("--rounds", type=at_least(1), default=5, metavar="N", help="of parallel; four times as many of first-byte (%(default)s)")
    options.add_argument("--rounds-large", type=at_least(1), default=1, metavar="N", help="of coalescing (%(default)s)")
    options.add_argument("--coalescing-rate", type=at_least(1), default=40, metavar="MB/S",
                         help="of the origin of coalescing, so low that 64 clients can be served (%(default)s)")
    options.add_argument("--slow-clients", type=at_least(1), default=1000, metavar="N", help="of slow (%(default)s)")
    options.add_argument("--slow-seconds", type=at_least(0.25, float), default=15, metavar="SECONDS", help="for which they read (%(default)s)")
    parts = ["coalescing", "first-byte", "parallel", "slow", "oversize"]
    options.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART", help="some of the parts above (all)")
    options = options.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    print("| what | median |\n|---|---|")
    for part in options.only:
        getattr(Bench(options, folder), part.replace("-", "_"))()


if __name__ == "__main__":
    run(main)
