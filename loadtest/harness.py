"""Starts servers on loopback, runs the load generator against them, reads their memory from /proc.

What the measuring commands beside it share. Every server is stopped by its own process id; every run
of the generator has an end. With MEASURE_LOCK=FILE in the environment, that file is locked around
each measurement, for machines on which others measure too.
"""
import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20
RUN_SECONDS_MAX = 1_800


# Told to stop, a command still stops its servers.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))


def fail(text):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {text}")


@contextlib.contextmanager
def measuring():
    """Nobody else who knows the lock measures meanwhile."""
    path = os.environ.get("MEASURE_LOCK")
    if not path:
        yield
        return
    with open(path, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# Priority of servers and generator. Below 0, for root, other work of the machine disturbs them less.
NICE = 0


def _with_priority():
    """What a child does before it becomes a server or the generator."""
    if NICE:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        # Where the kernel shares the cores between sessions first, a priority counts only within one.
        # The child is a session of its own, which gets the priority too.
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
            group.write(str(NICE))


def start(argv, **more):
    return subprocess.Popen(argv, start_new_session=NICE != 0, preexec_fn=_with_priority, **more)


def arguments(doc):
    """A parser with what all commands take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lucid", help="the node's binary (default: builds it)")
    parser.add_argument("--load", help="the load generator's binary (default: builds it)")
    return parser


def build(folder, name, manifest=None):
    """Builds a release binary and answers its path."""
    command = ["cargo", "build", "--release", "--quiet", "--locked"]
    if manifest:
        command += ["--manifest-path", manifest]
    subprocess.run(command, cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(folder, "target"))
    return os.path.join(target, "release", name)


def binaries(options):
    """Paths of node and generator."""
    node = options.lucid or build(ROOT, "lucid")
    load = options.load or build(os.path.join(HERE, "load"), "load", os.path.join(HERE, "load", "Cargo.toml"))
    return os.path.abspath(node), os.path.abspath(load)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server process of ours, until the end of the `with` block."""

    def __init__(self, name, argv, protocol, port=None, cpus=None):
        self.name, self.protocol, self.port = name, protocol, port
        # Options of the generator that this server needs.
        self.load = {}
        self.folder = tempfile.mkdtemp(prefix="loadtest-")
        os.chmod(self.folder, 0o700)
        self.argv = (["taskset", "-c", cpus] if cpus else []) + argv
        self.process = None

    def __enter__(self):
        out = open(os.path.join(self.folder, "out"), "wb")
        err = open(os.path.join(self.folder, "err"), "wb")
        self.process = start(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.folder)
        self.pid = self.process.pid
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_ready(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.process.poll() is not None:
                fail(f"{self.name} stopped with {self.process.returncode}: {self.text('err')[-600:]}")
            if self.port is None:
                found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.text("out"))
                self.port = int(found.group(1)) if found else None
            if self.port is not None:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    return
            time.sleep(0.02)
        fail(f"{self.name} does not listen")

    def text(self, name):
        with open(os.path.join(self.folder, name), errors="replace") as file:
            return file.read()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self):
        """The processes whose CPU time counts."""
        return [self.pid]

    def alive(self):
        return self.process.poll() is None

    def rss(self):
        """Resident bytes now; cheap, within a few hundred KiB."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * PAGE

    def rss_exact(self):
        """Resident bytes, every page counted."""
        with open(f"/proc/{self.pid}/smaps_rollup") as file:
            return int(re.search(r"^Rss:\s+(\d+) kB", file.read(), re.M).group(1)) * 1024


def lucid(binary, memory, workers=1, when_full="evict", cpus=None, more=""):
    """A node without authentication. `memory`: bytes; `more`: lines of the `store` section."""
    server = Server("lucid", [binary, "-c", "lucid.yml", "server"], "http", cpus=cpus)
    path = os.path.join(server.folder, "lucid.yml")
    with open(path, "w") as file:
        file.write(
            "general:\n  port: 0\n  bind_address: 127.0.0.1\n  show_banner: false\n"
            f"runtime:\n  workers: {workers}\n"
            "authentication:\n  enabled: false\n"
            f"store:\n  memory_limit: {int(memory)}\n  when_full: {when_full}\n{more}"
        )
    os.chmod(path, 0o600)
    return server


def memcached(memory, threads=1, cpus=None):
    """A memcached of this many bytes, in whole MiB."""
    port = free_port()
    argv = ["memcached", "-U", "0", "-l", "127.0.0.1", "-p", str(port), "-t", str(threads), "-c", "4096",
            "-m", str(max(1, int(memory) // MIB))]
    if os.geteuid() == 0:
        argv += ["-u", "root"]
    return Server("memcached", argv, "memcached", port, cpus)


def redis(cpus=None):
    port = free_port()
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    return Server("redis", argv, "resp", port, cpus)


def load(binary, server, cpus=None, **options):
    """Runs the generator: `put=100` is `--put 100`, `cache_aside=True` is `--cache-aside`."""
    argv = (["taskset", "-c", cpus] if cpus else []) + [
        binary, "--address", f"127.0.0.1:{server.port}", "--protocol", server.protocol, "--pid", ",".join(map(str, server.pids()))]
    for name, value in {**server.load, **options}.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            argv.append(flag)
        elif value is not None and value is not False:
            argv += [flag, str(value)]
    run = start(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = run.communicate(timeout=RUN_SECONDS_MAX)
    except BaseException:
        run.kill()
        run.wait()
        raise
    sys.stderr.write(err)
    if run.returncode:
        fail(f"the load on {server.name} failed" + ("" if server.alive() else ": the server is gone"))
    return json.loads(out)


class MemoryWatch(threading.Thread):
    """Samples a server's memory every 50 ms until the end of the `with` block."""

    def __init__(self, server, seconds=0.05):
        super().__init__(daemon=True)
        self.server, self.seconds, self.samples = server, seconds, []
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(self.seconds):
            with contextlib.suppress(OSError):
                self.samples.append(self.server.rss())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    @property
    def peak(self):
        return max(self.samples, default=0)


def verdict(misses):
    """The last line, and the exit code."""
    if misses:
        print("MISS: " + "; ".join(misses))
        sys.exit(1)
    print("PASS")
