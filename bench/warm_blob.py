#!/usr/bin/env python3
"""Warm GETs of one blob: Forebay beside nginx, on the same bytes, in alternating rounds.

usage: bench/warm_blob.py [--binary .build/release/forebay] [--mib 256] [--clients 1 8] [--rounds 7]

Everything runs on loopback, in a temporary folder. Prints medians of wall throughput and of the server's CPU seconds per GiB, and their
ratios. Needs nginx and curl.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def cpu_seconds(pid):
    """CPU of a process and its children, in seconds."""
    total = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def start_nginx(folder, root):
    port = free_port()
    (folder / "nginx.conf").write_text(f"""
worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; root {root}; }} }}
""")
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    return subprocess.Popen([nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL), port


def start_forebay(binary, folder):
    port = free_port()
    process = subprocess.Popen(
        [binary, "serve", "--listen", f"127.0.0.1:{port}", "--cache-dir", str(folder / "cache"), "--cache-size", "4GiB",
         "--origin", f"file://{folder}/origin"],
        stderr=(folder / "forebay.log").open("w"))
    return process, port


def push(port, path, digest):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/bench/blobs/uploads/?digest={digest}", data=path.open("rb"), method="POST",
        headers={"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request) as response:
        assert response.status == 201, response.status


def measure(url, pid, size, clients):
    """Returns GiB/s and the server's CPU seconds per GiB."""
    before, start = cpu_seconds(pid), time.monotonic()
    pulls = [subprocess.Popen(["curl", "-fsS", "-o", "/dev/null", url]) for _ in range(clients)]
    if any(pull.wait() for pull in pulls):
        sys.exit(f"a pull of {url} failed")
    wall = time.monotonic() - start
    gib = clients * size / 2**30
    return gib / wall, (cpu_seconds(pid) - before) / gib


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--binary", default=".build/release/forebay")
    options.add_argument("--mib", type=int, default=256)
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    options.add_argument("--rounds", type=int, default=7)
    options = options.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    folder.chmod(0o755)  # nginx reads it as another user
    processes = []
    try:
        blob = folder / "blob"
        size = options.mib << 20
        with blob.open("wb") as out:
            for _ in range(options.mib):
                out.write(os.urandom(1 << 20))
        digest = "sha256:" + hashlib.sha256(blob.read_bytes()).hexdigest()
        nginx, nginx_port = start_nginx(folder, folder)
        processes.append(nginx)
        forebay, forebay_port = start_forebay(options.binary, folder)
        processes.append(forebay)
        wait_for(nginx_port)
        wait_for(forebay_port)
        push(forebay_port, blob, digest)
        targets = {
            "nginx": (f"http://127.0.0.1:{nginx_port}/blob", nginx.pid),
            "forebay": (f"http://127.0.0.1:{forebay_port}/v2/bench/blobs/{digest}", forebay.pid),
        }
        print(f"{options.mib} MiB, medians of {options.rounds} alternating rounds")
        print("| clients | server | GiB/s (min-max) | CPU s/GiB (min-max) |\n|---|---|---|---|")
        for clients in options.clients:
            results = {name: [] for name in targets}
            for _ in range(options.rounds):
                for name, (url, pid) in targets.items():
                    results[name].append(measure(url, pid, size, clients))
            medians = {}
            for name, rounds in results.items():
                speeds, costs = zip(*rounds)
                medians[name] = statistics.median(speeds), statistics.median(costs)
                print(f"| {clients} | {name} | {medians[name][0]:.2f} ({min(speeds):.2f}-{max(speeds):.2f}) "
                      f"| {medians[name][1]:.2f} ({min(costs):.2f}-{max(costs):.2f}) |")
            print(f"| {clients} | ratio | {medians['forebay'][0] / medians['nginx'][0]:.2f} "
                  f"| {medians['forebay'][1] / max(medians['nginx'][1], 1e-9):.2f} |")
    finally:
        for process in processes:
            process.terminate()
            process.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
