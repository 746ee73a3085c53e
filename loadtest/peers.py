"""Lucid and the servers it is compared with, each set up as well as its documentation says.

Nothing is written to disk or logged, connections are kept for as long as the client likes, Nagle's
algorithm is off. Settings stand in `peers/`. Every server is given by a function of its number of
threads, its cores and the size of the values.
"""
import base64
import hashlib
import hmac
import os
import shutil
import time

import harness
from harness import MIB, Server

MEMORY = 1024 * MIB
SECRET = "a secret of this measurement only, 32 bytes and more"
NGINX_MODULES = "/usr/lib/nginx/modules"


def token():
    """A JWT for a node with SECRET."""

    def text(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = text(b'{"alg":"HS256","typ":"JWT"}')
    claims = text(b'{"sub":"bench","iat":%d,"exp":%d}' % (time.time(), time.time() + 86_400))
    tag = hmac.new(SECRET.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    return f"{head}.{claims}.{text(tag)}"


def with_token(server):
    """A node that wants a token on every request, and a generator that sends it."""
    path = os.path.join(server.folder, "lucid.yml")
    with open(path) as file:
        settings = file.read()
    with open(path, "w") as file:
        file.write(settings.replace("enabled: false", f'enabled: true\n  secret_key: "{SECRET}"'))
    server.load = {"authorization": f"Bearer {token()}"}
    return server


def settings(server, name, **values):
    """Puts a file of `peers/` into the server's folder; {name} in it is replaced by its value."""
    with open(os.path.join(harness.HERE, "peers", name)) as file:
        text = file.read()
    for key, value in {"port": server.port, **values}.items():
        text = text.replace("{" + key + "}", str(value))
    with open(os.path.join(server.folder, name), "w") as file:
        file.write(text)
    return server


def redis(cpus):
    return settings(Server("redis", ["redis-server", "redis.conf"], "resp", harness.free_port(), cpus), "redis.conf")


def nginx(threads, cpus):
    server = Server("nginx-lua", ["nginx", "-p", ".", "-c", "nginx.conf"], "http", harness.free_port(), cpus)
    user = "user root;" if os.geteuid() == 0 else ""
    return settings(server, "nginx.conf", threads=threads, modules=NGINX_MODULES, user=user)


class Webdis(Server):
    """Webdis with a Redis of its own behind it, on the same cores; both processes are measured."""

    def __init__(self, threads, cpus):
        super().__init__("webdis", ["webdis", "webdis.json"], "http", harness.free_port(), cpus)
        self.redis = redis(cpus)
        settings(self, "webdis.json", threads=threads, redis_port=self.redis.port)
        self.load = {"get": "GET /GET/{K}.txt", "put_line": "PUT /SET/{K}"}

    def __enter__(self):
        self.redis.__enter__()
        try:
            return super().__enter__()
        except BaseException:
            self.redis.__exit__()
            raise

    def __exit__(self, *what):
        super().__exit__(*what)
        self.redis.__exit__(*what)

    def pids(self):
        return [self.pid, self.redis.pid]


# What has to be there for a peer to be measured.
NEEDS = {
    "redis": ["redis-server"],
    "memcached": ["memcached"],
    "nginx-lua": ["nginx", f"{NGINX_MODULES}/ngx_http_lua_module.so"],
    "webdis": ["webdis", "redis-server"],
}
# Who cannot be asked for a second thing before the first is answered.
ONE_AT_A_TIME = {"webdis": "it answers pipelined requests in another order than they were asked"}
NAMES = ["null", "lucid", "lucid-jwt", "hyper", "redis", "memcached", "nginx-lua", "webdis"]
TITLES = {
    "null": "bare socket",
    "lucid": "Lucid",
    "lucid-jwt": "Lucid, JWT",
    "hyper": "hyper + DashMap",
    "redis": "Redis",
    "memcached": "memcached",
    "nginx-lua": "nginx + Lua",
    "webdis": "webdis",
}


def missing(name):
    """What is not installed and would be needed."""
    return [each for each in NEEDS.get(name, []) if not (os.path.exists(each) or shutil.which(each))]


def start(name, binaries, threads, cpus, value_bytes):
    """A server, not yet running. `binaries`: paths of what we build, by name."""
    match name:
        case "null":
            argv = [binaries["null"], "--threads", str(threads), "--body", str(value_bytes)]
            return Server(name, argv, "http", cpus=cpus)
        case "hyper":
            return Server(name, [binaries["hyper"], "--threads", str(threads)], "http", cpus=cpus)
        case "lucid":
            return harness.lucid(binaries["lucid"], MEMORY, threads, cpus=cpus)
        case "lucid-jwt":
            return with_token(harness.lucid(binaries["lucid"], MEMORY, threads, cpus=cpus))
        case "redis":
            return redis(cpus)
        case "memcached":
            return harness.memcached(2 * MEMORY, threads, cpus)
        case "nginx-lua":
            return nginx(threads, cpus)
        case "webdis":
            return Webdis(threads, cpus)
    raise ValueError(name)
