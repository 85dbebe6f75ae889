"""Clients of the side-by-side beside `forebay bench`: wrk, whose requests cost a tenth, and connections that do nothing."""

import contextlib
import json
import resource
import select
import socket
import subprocess
import threading

from peers import MANIFEST_TYPE, Failure, find

# Ends with what the summary holds, as JSON. Asks for the paths in a file by chance, where one is given.
WRK_SCRIPT = """
local threads, wanted = 0, {}
setup = function(thread) threads = threads + 1; thread:set("seed", threads) end
init = function(arguments)
  if not arguments[1] then return end
  for path in io.lines(arguments[1]) do table.insert(wanted, wrk.format("GET", path)) end
  math.randomseed(seed)
  wrk.request = function() return wanted[math.random(#wanted)] end
  request = wrk.request
end
done = function(summary, latency)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  local curve = {}
  for _, p in ipairs({1, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99, 99.5, 99.9, 99.99}) do
    table.insert(curve, string.format('{"percentile": %g, "microseconds": %d}', p, latency:percentile(p)))
  end
  table.insert(curve, string.format('{"percentile": 100, "microseconds": %d}', latency.max))
  io.write(string.format('\\nJSON{"requests": %d, "errors": %d, "seconds": %.6f, "latency": {"count": %d, "mean": %.1f, ' ..
    '"min": %d, "p50": %d, "p90": %d, "p95": %d, "p99": %d, "p999": %d, "max": %d, "curve": [%s]}}\\n',
    summary.requests, errors, summary.duration / 1e6, summary.requests, latency.mean, latency.min, latency:percentile(50),
    latency:percentile(90), latency:percentile(95), latency:percentile(99), latency:percentile(99.9), latency.max,
    table.concat(curve, ", ")))
end
"""
# Without this one, wrk sends the same request each time, which costs it less.
WRK_BY_CHANCE = WRK_SCRIPT + "request = function() return wrk.request() end\n"


def wrk(folder, server, path, size, clients, seconds, paths=None):
    """A sample of requests for a path, or for the paths in a file, whose answers have so many bytes."""
    script = folder / ("chance.lua" if paths else "one.lua")
    script.write_text(WRK_BY_CHANCE if paths else WRK_SCRIPT)
    command = [find("wrk"), "-t", str(min(2, clients)), "-c", str(clients), "-d", f"{seconds}s", "-H", f"Accept: {MANIFEST_TYPE}", "-s",
               str(script), server.url + path, *(["--", str(paths)] if paths else [])]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        raise Failure(f"wrk: {result.stderr.strip() or result.returncode}")
    found = json.loads(result.stdout[result.stdout.index("JSON{") + 4:])
    done = max(found["requests"] - found["errors"], 0)
    return {"operations": done, "bytes": done * size, "seconds": found["seconds"],
            "latency": found["latency"], "timeline": [], "clientCPUSeconds": 0, "loop": "closed",
            "errors": {"failed": found["errors"]} if found["errors"] else {}}


class Connection:
    """The least that a kept connection takes."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self.answers = self.socket.makefile("rb")

    def get(self, path):
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {MANIFEST_TYPE}\r\n\r\n".encode())
        status, length = self.answers.readline(), 0
        if b" 200 " not in status:
            raise OSError(f"GET {path}: {status.decode().strip() or 'no answer'}")
        while (line := self.answers.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = self.answers.read(length)
        if len(body) < length:
            raise OSError(f"GET {path}: cut short")
        return body

    def close(self):
        self.answers.close()
        self.socket.close()


@contextlib.contextmanager
def idle_connections(server, path, count):
    """Each has had one answer and is kept. Hands over a function that tells how many the server has closed."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(Connection(server))
            stack.callback(connections[-1].close)
            connections[-1].get(path)
        poll = select.poll()
        for connection in connections:
            poll.register(connection.socket, select.POLLIN)
        yield lambda: len(poll.poll(0))


def fetch_each(server, paths, clients=16, expected=None):
    """Asks for each path once; the answer must be `expected`, if that is given."""
    failures = []

    def work(own):
        try:
            connection = Connection(server)
            for path in own:
                body = connection.get(path)
                if expected not in (None, body):
                    raise OSError(f"GET {path}: other bytes than were pushed")
            connection.close()
        except OSError as error:
            failures.append(error)
    threads = [threading.Thread(target=work, args=(paths[start::clients],)) for start in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
