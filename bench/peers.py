"""What the benchmarks share: servers to measure, their origin, and /proc.

Everything runs on loopback in one temporary folder, and ends with the `Bench` that started it.
"""

import atexit
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from program import ROOT, ignore_signals

TICKS = os.sysconf("SC_CLK_TCK")
REPOSITORY = "bench"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

# Nothing of the caller's: proxies, authorities and credentials are not for loopback.
ENVIRONMENT = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


class Failure(SystemExit):
    """What a server or its client did not do. Uncaught, it ends the program with its message."""


# Processes


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tree(pid):
    """A process and all below it."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_seconds(pid):
    """CPU time of a process and its children, in seconds."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def reset_peak(pid):
    for one in tree(pid):
        with contextlib.suppress(OSError):
            pathlib.Path(f"/proc/{one}/clear_refs").write_text("5")


def peak_mib(pid):
    """The most memory that the processes held since `reset_peak`, in MiB. What they share now counts once: as much as one has at most.

    PSS would share it out among all servers that run the same program here.
    """
    peaks, shared = [], []
    for one in tree(pid):
        with contextlib.suppress(OSError):
            text = "".join(pathlib.Path(f"/proc/{one}/{name}").read_text() for name in ("status", "smaps_rollup"))
            sizes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
            peaks.append(sizes["VmHWM"])
            shared.append(sizes["Shared_Clean"] + sizes["Shared_Dirty"])
    return (sum(peaks) - sum(shared) + max(shared, default=0)) / 1024


def machine():
    cpu = [line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
           if line.startswith("model name")]
    memory = pathlib.Path("/proc/meminfo").read_text().split()[1]
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', pathlib.Path("/etc/os-release").read_text(), re.MULTILINE)
    return {"processor": cpu[0] if cpu else os.uname().machine, "cores": str(os.cpu_count()),
            "memory": f"{int(memory) / 2**20:.1f} GiB", "system": system[1] if system else "unknown",
            "kernel": f"Linux {os.uname().release}"}


def build(binary):
    """What is measured, as the binary itself has it; and the commit, where it is certain to be made of that."""
    return f"{version(binary, '--version')} ({', '.join([identity(binary), *commit_of(binary)])})"


def identity(binary):
    notes = subprocess.run([find("readelf"), "--notes", binary], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found = re.search(r"Build ID: (\w+)", notes)
    return f"build {found[1][:12]}" if found else f"SHA-256 {hashlib.sha256(pathlib.Path(binary).read_bytes()).hexdigest()[:12]}"


def commit_of(binary):
    """Where the binary is this checkout's own, nothing is changed in it, and no source is newer."""
    own = ROOT / ".build/release/forebay"
    if not own.exists() or not own.samefile(binary):
        return []
    made = own.stat().st_mtime
    sources = [ROOT / "Package.swift", *(path for path in (ROOT / "Sources").rglob("*") if ".docc" not in str(path))]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        status, commit = (subprocess.run(["git", "-C", ROOT, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
                          for command in (["status", "--porcelain"], ["describe", "--always"]))
        if not status and all(path.stat().st_mtime <= made for path in sources):
            return [f"commit {commit.strip()}"]
    return []


def find(program):
    path = shutil.which(program, path=ENVIRONMENT["PATH"])
    if path is None:
        sys.exit(f"{program} is not installed: `make bench` installs it")
    return path


def version(*command):
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    found = re.search(r"\d+\.\d+[^\s)]*", output)
    return found[0] if found else "unknown"


# The origin


RGW = ROOT / "Tests/Servers/rgw.sh"


def start_rgw(environment):
    """Ceph's gateway: what the script prints. Interrupted, nothing of the script goes on; its daemons end by its `stop`."""
    process = subprocess.Popen([RGW, "start"], env=environment, text=True, stdout=subprocess.PIPE, start_new_session=True)
    try:
        output, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        sys.exit("the S3 server does not start: `make bench` installs what it needs")
    return output


def stop_rgw(environment):
    subprocess.run([RGW, "stop"], env=environment, stdout=subprocess.DEVNULL)


class Counters:
    """Requests to Ceph's gateway, and the bytes of objects in them, as it counts them itself: nothing stands in the way that costs time."""

    def __init__(self, path):
        self.path = str(path)

    def read(self):
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(self.path)
            admin.sendall(b'{"prefix": "perf dump", "format": "json"}\0')
            length = int.from_bytes(admin.recv(4, socket.MSG_WAITALL), "big")
            found = json.loads(admin.recv(length, socket.MSG_WAITALL))["rgw"]
        return found["req"], found["get_b"] + found["put_b"]


# Servers


FAR = ", far origin"


class Server:
    """A process to measure: how it is called, its pid and port, and whether it asks the origin."""

    def __init__(self, name, process, port, version):
        self.name, self.process, self.pid, self.port, self.version = name, process, process.pid, port, version

    @property
    def label(self):
        """What it is called in results: the same wherever its origin is."""
        return self.name.removesuffix(FAR)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def signal(self, number):
        for one in tree(self.pid):
            with contextlib.suppress(OSError):
                os.kill(one, number)


class Bench:
    """The folder, the processes in it, and the origin. A context manager, which ends everything also after a failure."""

    def __init__(self, binary):
        self.binary = binary
        self.servers = []
        self.processes = []
        self.counters = None
        self.s3 = None  # the environment that rgw.sh was started with
        self.keys = {}

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-bench-"))
        self.folder.chmod(0o755)  # nginx's workers are another user's
        atexit.register(self.close)
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        atexit.unregister(self.close)
        ignore_signals()
        for process in self.processes:
            for one in tree(process.pid):
                with contextlib.suppress(OSError):
                    os.kill(one, signal.SIGCONT)
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []
        if self.s3:
            stop_rgw(self.s3)
            self.s3 = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, name, command, port, version, environment=None):
        log = (self.folder / f"{name.replace(' ', '-')}.log").open("w")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                   env=ENVIRONMENT | (environment or {}))
        self.processes.append(process)
        server = Server(name, process, port, version)
        for _ in range(400):
            if process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                self.servers.append(server)
                return server
            time.sleep(0.05)
        sys.exit(f"{name} does not start:\n{pathlib.Path(log.name).read_text()[-2000:]}")

    def new_folder(self, name):
        folder = self.folder / name
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        return folder

    def start_s3(self, size="24GiB", buckets=(REPOSITORY,)):
        """Ceph's gateway with public buckets."""
        units = {"GiB": 2**30, "MiB": 2**20}
        environment = dict(ENVIRONMENT, RGW_DIR=str(self.folder / "rgw"), RGW_PORT=str(free_ports(5)),
                           RGW_SIZE=str(int(size[:-3]) * units[size[-3:]]))
        self.s3 = environment
        exports = dict(line[7:].split("=", 1) for line in start_rgw(environment).splitlines() if line.startswith("export "))
        self.keys = {name: value for name, value in exports.items() if name.startswith("AWS_")}
        self.s3_port = int(environment["RGW_PORT"])
        self.counters = Counters(self.folder / "rgw/run/client.rgw.asok")
        for bucket in buckets:
            self.s3_request("PUT", bucket)
            statement = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{bucket}/*"]}
            # curl signs a parameter without "=" wrongly.
            self.s3_request("PUT", f"{bucket}?policy=", json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

    def s3_request(self, method, path, body=""):
        keys = f"{self.keys['AWS_ACCESS_KEY_ID']}:{self.keys['AWS_SECRET_ACCESS_KEY']}"
        subprocess.run(
            ["curl", "-fsS", "--noproxy", "*", "-X", method, "--aws-sigv4", f"aws:amz:{self.keys['AWS_DEFAULT_REGION']}:s3",
             "--config", "-", "-H", f"x-amz-content-sha256: {hashlib.sha256(body.encode()).hexdigest()}", "--data-binary", body,
             f"http://127.0.0.1:{self.s3_port}/{path}"],
            input=f'user = "{keys}"\n', text=True, check=True, stdout=subprocess.DEVNULL)

    # Forebay

    def forebay(self, name="Forebay", origin=None, cache="8GiB", flags=(), s3_port=None):
        """Before a bucket of the S3 server, or before a directory."""
        port, folder = free_port(), self.new_folder(name.replace(" ", "-").replace(",", ""))
        where = ["--origin", f"file://{origin}"] if origin else [
            "--origin", f"s3://{REPOSITORY}", "--s3-endpoint", f"http://127.0.0.1:{s3_port or self.s3_port}", "--s3-addressing", "path"]
        command = [self.binary, "serve", "--listen", f"127.0.0.1:{port}", "--cache-dir", str(folder), "--cache-size", cache,
                   "--log-level", "warning", *where, *flags]
        return self.spawn(name, command, port, version(self.binary, "--version"), self.keys)

    # nginx

    # From the path of a request to the key in the bucket.
    PATHS = """
  map $uri $object { default /none;
    ~^/v2/(?<r1>.+)/blobs/(?<a1>sha[0-9]+):(?<h1>[0-9a-f]+)$ /blobs/$a1/$h1;
    ~^/v2/(?<r2>.+)/manifests/(?<a2>sha[0-9]+):(?<h2>[0-9a-f]+)$ /manifests/$r2/_digests/$a2-$h2.json;
    ~^/v2/(?<r3>.+)/manifests/(?<t3>[^:]+)$ /manifests/$r3/$t3.json; }"""

    def _nginx(self, name, http, location):
        port, folder = free_port(), self.new_folder(name.replace(" ", "-").replace(",", ""))
        temporary = "\n".join(f"  {kind}_temp_path {folder}/{kind};" for kind in
                              ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(f"""
worker_processes {os.cpu_count()}; pcre_jit on; daemon off; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; client_max_body_size 0;
{temporary}
{http}
  server {{ listen 127.0.0.1:{port} backlog=1024;
    location = /v2/ {{ return 200; }}
    location / {{ {location} }} }} }}
""")
        nginx = find("nginx")
        return self.spawn(name, [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], port, version(nginx, "-v"))

    def nginx_static(self, root, name="nginx", http=""):
        """Plain files under the paths of their requests, as `lay_out` links them: nothing to match or to rewrite. Each is opened anew."""
        return self._nginx(
            name, http,
            f"root {root}; types {{ }} default_type application/octet-stream; "
            f"location /v2/{REPOSITORY}/manifests/ {{ default_type {MANIFEST_TYPE}; }}")

    def nginx_tuned(self, root, name="nginx, open_file_cache"):
        """The same, keeping files open without looking at them again for ten minutes."""
        return self.nginx_static(root, name, "  open_file_cache max=10000 inactive=10m; open_file_cache_valid 10m;")

    @staticmethod
    def lay_out(origin, root):
        """Links what a directory origin holds into `root`, under the paths that a registry has it at."""
        epoch, base = origin / "epoch", root / "v2" / REPOSITORY
        paths = {blob: f"blobs/{blob.parent.name}:{blob.name}" for blob in epoch.glob("blobs/*/*")}
        for manifest in epoch.glob(f"manifests/{REPOSITORY}/*.json"):
            paths[manifest] = f"manifests/{manifest.stem}"
        for manifest in epoch.glob(f"manifests/{REPOSITORY}/_digests/*.json"):
            paths[manifest] = f"manifests/{manifest.stem.replace('-', ':')}"
        for file, path in paths.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (base / path).hardlink_to(file)

    @staticmethod
    def _upstream(port):
        return f"  upstream origin {{ server 127.0.0.1:{port}; keepalive 64; }}"

    def far_s3(self, rate):
        """The S3 server as from afar: a connection gets no more than `rate` MiB/s."""
        return self._nginx(
            "far S3", self._upstream(self.s3_port),
            f"limit_rate {rate}m; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $http_host; "
            "proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_pass http://origin;")

    PASS = f"proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host localhost; proxy_pass http://origin/{REPOSITORY}/epoch$object;"

    def nginx_cache(self, name="nginx, proxy_cache", s3_port=None):
        """A pull cache before the bucket, as its documentation sets one up, with one request at a time for what is missing."""
        folder = self.new_folder(f"{name} files")
        return self._nginx(
            name, f"{self._upstream(s3_port or self.s3_port)}{self.PATHS}\n  proxy_cache_path '{folder}' levels=1:2 keys_zone=blobs:16m max_size=8g use_temp_path=off;",
            "proxy_cache blobs; proxy_cache_key $object; proxy_cache_valid 200 1h; proxy_cache_lock on; "
            f"proxy_cache_lock_timeout 60s; proxy_cache_lock_age 60s; proxy_max_temp_file_size 0; {self.PASS}")

    def nginx_face(self, tags, name="upstream registry", s3_port=None):
        """Gives the bucket the face of a registry, for who pulls from registries only. Caches nothing, and is not measured.

        `tags` are the digests of tags, which a registry says and a bucket does not know.
        """
        lines = "".join(f"    /v2/{REPOSITORY}/manifests/{tag} {digest};\n" for tag, digest in tags.items())
        digests = f"  map $uri $digest {{ default '';\n{lines}    ~/(?<d>sha[0-9]+:[0-9a-f]+)$ $d; }}"
        return self._nginx(name, f"{self._upstream(s3_port or self.s3_port)}{self.PATHS}\n{digests}",
                           f"add_header Docker-Content-Digest $digest; proxy_max_temp_file_size 0; {self.PASS}")

    # Varnish

    def varnish(self, name="Varnish", memory="3G", s3_port=None):
        port, folder = free_port(), self.new_folder(name.replace(" ", "-").replace(",", ""))
        epoch = f"/{REPOSITORY}/epoch"
        (folder / "bench.vcl").write_text(f"""vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{s3_port or self.s3_port}"; }}
sub vcl_recv {{
  if (req.url == "/v2/") {{ return (synth(200)); }}
  set req.url = regsub(req.url, "^/v2/.+/blobs/(sha[0-9]+):", "{epoch}/blobs/\\1/");
  set req.url = regsub(req.url, "^/v2/(.+)/manifests/(sha[0-9]+):(.+)$", "{epoch}/manifests/\\1/_digests/\\2-\\3.json");
  set req.url = regsub(req.url, "^/v2/(.+)/manifests/([^:]+)$", "{epoch}/manifests/\\1/\\2.json");
  return (hash);
}}
sub vcl_backend_response {{ set beresp.ttl = 1h; set beresp.do_stream = true; }}
""")
        program = find("varnishd")
        command = [program, "-F", "-f", str(folder / "bench.vcl"), "-a", f"127.0.0.1:{port}", "-n", str(folder / "state"), "-j", "none",
                   "-s", f"malloc,{memory}", "-p", "thread_pool_min=100", "-p", "thread_pool_max=500"]
        return self.spawn(name, command, port, version(program, "-V"))

    # docker-registry

    def docker_registry(self, name, storage):
        port, folder = free_port(), self.new_folder(name.replace(" ", "-").replace(",", ""))
        filesystem = {"filesystem": {"rootdirectory": str(folder)}}
        configuration = {"version": "0.1", "log": {"level": "error", "accesslog": {"disabled": True}},
                         "http": {"addr": f"127.0.0.1:{port}"}, "storage": filesystem}
        if storage == "s3":
            configuration["storage"] = {
                "s3": {"accesskey": self.keys["AWS_ACCESS_KEY_ID"], "secretkey": self.keys["AWS_SECRET_ACCESS_KEY"],
                       "region": self.keys["AWS_DEFAULT_REGION"], "regionendpoint": f"http://127.0.0.1:{self.s3_port}",
                       "bucket": "docker", "secure": False, "v4auth": True, "encrypt": False}, "redirect": {"disable": True}}
        elif storage.startswith("http"):
            configuration["proxy"] = {"remoteurl": storage}
        configuration["storage"] |= {"delete": {"enabled": True}, "cache": {"blobdescriptor": "inmemory"},
                                     "maintenance": {"uploadpurging": {"enabled": False}}}
        (folder / "config.yml").write_text(json.dumps(configuration))  # JSON is YAML
        program = find("docker-registry")
        return self.spawn(name, [program, "serve", str(folder / "config.yml")], port, version(program, "--version"))

    # Measuring

    @contextlib.contextmanager
    def alone(self, server, helpers=()):
        """Holds the other servers still."""
        others = [other for other in self.servers if other is not server and other not in helpers]
        for other in others:
            other.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for other in others:
                other.signal(signal.SIGCONT)

    def forebay_bench(self, server, *flags, allow_failure=False):
        """`forebay bench` against a server; its report."""
        result = subprocess.run([self.binary, "bench", server.url, "--repository", REPOSITORY, "--json", "-", *map(str, flags)],
                                env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if result.returncode and not (allow_failure and result.stdout):
            raise Failure(f"forebay bench {server.name} {' '.join(map(str, flags))}: {result.stderr.strip()}")
        return json.loads(result.stdout)


def free_ports(count):
    """The first of so many free ports in a row."""
    for port in range(20000 + os.getpid() % 8000, 32000):
        with contextlib.ExitStack() as stack:
            try:
                for offset in range(count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port + offset)))
                return port
            except OSError:
                continue
    sys.exit(f"no {count} free ports in a row")


# Pushing by hand, for what `forebay bench` does not push


def push_blob(server, content):
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/", headers={"Content-Length": "0"})
    response = connection.getresponse()
    response.read()
    location = response.getheader("Location")
    location = location[location.index("/v2/"):]
    connection.request("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", body=content,
                       headers={"Content-Type": "application/octet-stream"})
    response = connection.getresponse()
    response.read()
    if response.status != 201:
        sys.exit(f"{server.name} refuses a blob: status {response.status}")
    return digest


def push_manifest(server, manifest, tag):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", body=manifest, headers={"Content-Type": MANIFEST_TYPE})
    response = connection.getresponse()
    body = response.read()
    if response.status != 201:
        sys.exit(f"{server.name} refuses a manifest: status {response.status} {body[:200]}")
    return "sha256:" + hashlib.sha256(manifest).hexdigest()
