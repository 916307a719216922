#!/usr/bin/env python3
"""Measures what gateways do under ten times the load that they can take, and after it. See README.md beside this file."""

import argparse
import collections
import errno
import heapq
import multiprocessing
import os
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from gateway import HOST, Gateway, certificate, end_with_parent, family, resident_kib
from upstream import Upstream

# The share of a core that each gateway has: so small that the machine can offer ten times what it serves.
SHARE = 0.02
# The gateway stands still for as long as this less its share.
PERIOD_MICROSECONDS = 50_000
BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"' + b"Words of a prompt. " * 40 + b'"}]}'
# A client that has no answer by then gives up, and closes its connection.
PATIENCE_SECONDS = 3
# What SDKs wait for after a refusal that does not say it.
PAUSE_SECONDS = 0.5
# Each of the loopback's addresses has ports of its own.
SOURCES = [f"127.0.0.{number}" for number in range(2, 18)]
IDLE_SECONDS, LOAD_SECONDS, AFTER_SECONDS = 4, 10, 8
# Connections that have it work all the time.
SATURATING = 16
# Of clients: a process may have so many descriptors, and use so much of a core.
PROCESSES = 2
# Beside the load, and before and after it: a part of what the gateway can take.
IDLE_PART = 0.25
STREAM_BODY = BODY[:-1] + b',"stream":true}'
# An answer that is streamed: so many events, one after the other.
EVENTS, EVENT_SECONDS = 40, 0.01
IP_BIND_ADDRESS_NO_PORT = 24


def asked(body):
    return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer any\r\nContent-Length: %d\r\n\r\n" % len(body)) + body


class Request:
    """One request of a client, from the moment at which it was due."""

    __slots__ = ("due", "socket", "received", "fresh", "sent", "first")

    def __init__(self, due, connection, fresh):
        self.due, self.socket, self.fresh, self.received, self.sent = due, connection, fresh, b"", False
        self.first = None


class Outcome:
    """How a request ended, and when that was decided."""

    __slots__ = ("due", "seconds", "kind", "pause")

    def __init__(self, due, seconds, kind, pause=0.0):
        self.due, self.seconds, self.kind, self.pause = due, seconds, kind, pause


class Clients:
    """Clients of one gateway: one thread, epoll, plain HTTP/1.1."""

    def __init__(self, port, load, patience=PATIENCE_SECONDS):
        self.port, self.keeps, self.patience_seconds = port, load != "fresh", patience
        self.request = asked(STREAM_BODY if load == "streams" else BODY)
        self.epoll = select.epoll()
        self.open = {}
        self.patience = collections.deque()
        self.free = collections.deque()
        self.outcomes = []
        self.source = 0
        self.on_end = None

    def begin(self, due, connection=None):
        """Sends the request that was due then, on `connection`, on one that is free, or on a new one."""
        if connection is None and self.keeps and self.free:
            connection = self.free.pop()
        if connection is not None:
            request = Request(due, connection, False)
            self.watch(request, select.EPOLLIN, False)
            return self.send(request)
        connection = socket.socket()
        connection.setblocking(False)
        # So that a port is chosen when both ends are known, and not one that no other connection has.
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        self.source = (self.source + 1) % len(SOURCES)
        connection.bind((SOURCES[self.source], 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = connection.connect_ex(("127.0.0.1", self.port))
        request = Request(due, connection, True)
        if failed not in (0, errno.EINPROGRESS):
            return self.end(request, "connect", False)
        self.watch(request, select.EPOLLOUT, True)

    def watch(self, request, events, is_new):
        self.open[request.socket.fileno()] = request
        self.patience.append(request)
        if is_new:
            self.epoll.register(request.socket, events)

    def send(self, request):
        try:
            request.socket.send(self.request)
            request.sent = True
        except BlockingIOError:
            raise SystemExit("a request did not fit into a socket")
        except OSError:
            self.end(request, "stale" if not request.fresh else "reset", False)

    def turn(self, seconds):
        for descriptor, events in self.epoll.poll(seconds):
            request = self.open.get(descriptor)
            if request is None:
                # A connection that was kept has been closed.
                self.forget_free(descriptor)
            elif not request.sent:
                if events & (select.EPOLLERR | select.EPOLLHUP):
                    self.end(request, "connect", False)
                    continue
                self.epoll.modify(descriptor, select.EPOLLIN)
                self.send(request)
            else:
                self.read(request)
        now = time.monotonic()
        while self.patience and (self.patience[0].socket is None or self.patience[0].due + self.patience_seconds <= now):
            request = self.patience.popleft()
            # A stream that has begun is read to its end.
            if request.socket is not None and not request.first:
                self.end(request, "timeout", False)

    def forget_free(self, descriptor):
        for connection in self.free:
            if connection.fileno() == descriptor:
                self.free.remove(connection)
                self.epoll.unregister(connection)
                connection.close()
                return

    def read(self, request):
        try:
            received = request.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            return self.end(request, "reset", False)
        if not received:
            # A keep-alive connection may be closed by the server at any time: a client then tries again.
            stale = not request.fresh and not request.received
            return self.end(request, "stale" if stale else "closed", False)
        request.first = request.first or time.monotonic()
        request.received += received
        head_end = request.received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return
        head = request.received[:head_end].lower()
        keeps = self.keeps and b"\r\nconnection: close" not in head
        if b"\r\ntransfer-encoding: chunked" in head:
            if request.received.endswith(b"\r\n0\r\n\r\n"):
                self.end(request, "ok", keeps)
            return
        if b"\r\ncontent-length:" not in head:
            # The page of an error: its connection closes.
            if not head.startswith(b"http/1.1 2"):
                self.end(request, head[9:12].decode(), False)
            return
        length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(request.received) < head_end + length:
            return
        pause = 0.0
        if b"\r\nretry-after:" in head:
            pause = float(head.split(b"\r\nretry-after:", 1)[1].split(b"\r\n", 1)[0])
        status = head[9:12].decode()
        self.end(request, "ok" if status == "200" else status, keeps, pause)

    def end(self, request, kind, keeps, pause=0.0):
        connection, request.socket = request.socket, None
        self.open.pop(connection.fileno(), None)
        # Of a streamed answer the time to its first byte counts.
        now = request.first if kind == "ok" else time.monotonic()
        if keeps:
            self.free.append(connection)
        else:
            connection.close()
        if kind == "stale":
            return self.begin(request.due)
        outcome = Outcome(request.due, now - request.due, kind, pause)
        self.outcomes.append(outcome)
        if self.on_end:
            self.on_end(outcome)


def offer(clients, begins, ends, rate):
    """An open loop: requests are due at this rate, whatever becomes of those before them."""
    due, step, latest = begins, 1 / rate, 0.0
    while due < ends:
        now = time.monotonic()
        count = 0
        while due <= now and due < ends and count < 64:
            latest = max(latest, now - due)
            clients.begin(due)
            due += step
            count += 1
        clients.turn(0 if due <= now else min(due - now, 0.01))
    return latest


def press(clients, ends, count):
    """A closed loop: so many clients, each of which sends its next request when it has an answer. One that is refused
    waits as long as it is told, or as long as SDKs wait."""
    waiting = []

    def go_on(outcome):
        now = time.monotonic()
        pause = 0 if outcome.kind == "ok" else outcome.pause or PAUSE_SECONDS
        heapq.heappush(waiting, now + pause)

    clients.on_end = go_on
    for _ in range(count):
        heapq.heappush(waiting, time.monotonic())
    while time.monotonic() < ends:
        now = time.monotonic()
        begun = 0
        while waiting and waiting[0] <= now and begun < 64:
            clients.begin(heapq.heappop(waiting))
            begun += 1
        clients.turn(0.001 if waiting and waiting[0] <= now + 0.001 else 0.01)
    clients.on_end = None


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


class Limited:
    """A control group whose processes have a share of a core together (cgroup v1 or v2; needs root)."""

    def __init__(self, share):
        quota = int(share * PERIOD_MICROSECONDS)
        name = f"flow-uring-overload-{os.getpid()}"
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            self.path = f"/sys/fs/cgroup/{name}"
            os.mkdir(self.path)
            self.write("cpu.max", f"{quota} {PERIOD_MICROSECONDS}")
        else:
            self.path = f"/sys/fs/cgroup/cpu/{name}"
            os.mkdir(self.path)
            self.write("cpu.cfs_period_us", PERIOD_MICROSECONDS)
            self.write("cpu.cfs_quota_us", quota)

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write(str(value))

    def take_in(self, pid):
        for member in family(pid):
            self.write("cgroup.procs", member)

    def remove(self):
        for _ in range(100):
            try:
                return os.rmdir(self.path)
            except OSError:
                time.sleep(0.05)


NGINX = """daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log crit;
worker_rlimit_nofile 60000;
events {{ {events} }}
http {{
  access_log off; server_tokens off; keepalive_requests 100000000;
  client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_timeout 60s; keepalive_requests 100000000; }}
  {zone}
  server {{
    listen 127.0.0.1:{port};
    {limit}
    location / {{
      proxy_pass https://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host {host};
      proxy_ssl_server_name on; proxy_ssl_name {host}; proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {authority}; proxy_ssl_session_reuse on;
    }}
  }}
}}
"""
HAPROXY = """global
  nbthread 1
  ssl-server-verify required
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
  {queue}
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  http-request set-header Host {host}
  default_backend b
backend b
  server s 127.0.0.1:{upstream} ssl verify required ca-file {authority} sni str({host}) verifyhost {host} {server}
"""


class Peer:
    """nginx or HAProxy, on a free port."""

    def __init__(self, command, directory, configuration, **values):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        path = os.path.join(directory, "configuration")
        with open(path, "w", encoding="ascii") as file:
            file.write(configuration.format(port=self.port, directory=directory, host=HOST, **values))
        self.log = open(os.path.join(directory, "peer.log"), "wb")
        self.process = subprocess.Popen([*command, path], cwd=directory, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, preexec_fn=end_with_parent)
        self.pid = self.process.pid
        until = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{command[0]} has not started: see {directory}")
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            for member in reversed(family(self.pid)):
                os.kill(member, signal.SIGKILL)
            self.process.wait()


def nginx(events="", zone="", limit=""):
    def start(wanted, directory, upstream, authority):
        os.chmod(directory, 0o755)
        return Peer([shutil.which("nginx", path="/usr/sbin:/usr/bin"), "-e", f"{directory}/nginx.log", "-c"], directory,
                    NGINX, upstream=upstream, authority=authority, events=events, zone=zone, limit=limit)
    return start


def haproxy(queue="", server=""):
    def start(wanted, directory, upstream, authority):
        return Peer([shutil.which("haproxy", path="/usr/sbin:/usr/bin"), "-db", "-f"], directory, HAPROXY,
                    upstream=upstream, authority=authority, queue=queue, server=server)
    return start


def flow_uring(wanted, directory, upstream, authority):
    return Gateway(os.path.abspath(wanted.program), directory, upstream, authority, wanted.argument or ())


GATEWAYS = {
    "flow-uring": flow_uring,
    "nginx": nginx(events="worker_connections 20000;"),
    # As people configure it: no more at a time than keep it busy, and a page for the others.
    "nginx limited": nginx("worker_connections 20000;", "limit_conn_zone $server_name zone=all:1m;",
                           "limit_conn all 64; limit_conn_status 503; limit_conn_log_level info; "
                           "error_page 503 @busy; location @busy { add_header Retry-After 1 always; return 503; }"),
    "haproxy": haproxy(),
    "haproxy limited": haproxy("timeout queue 100ms", "maxconn 64"),
}


class Answers(Upstream):
    """An upstream whose streams have so many events each, and then end."""

    def __init__(self, path, key):
        super().__init__(0, path, key)
        self.events = []

    def answer_requests(self, connection):
        super().answer_requests(connection)
        if self.streams.pop(connection.number, None):
            heapq.heappush(self.events, (time.monotonic(), connection.number, EVENTS, connection))

    def serve(self):
        while True:
            now = time.monotonic()
            self.turn(max(0, min(self.events[0][0] - now, 1)) if self.events else 1)
            while self.events and self.events[0][0] <= time.monotonic():
                due, number, left, connection = heapq.heappop(self.events)
                if connection.socket.fileno() < 0:
                    continue
                if left and self.send(connection):
                    heapq.heappush(self.events, (due + EVENT_SECONDS, number, left - 1, connection))
                elif not left:
                    self.end(connection)

    def end(self, connection):
        try:
            connection.socket.sendall(b"0\r\n\r\n")
        except OSError:
            self.close(connection)


def serve_upstream(sender, path, key):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    upstream = Answers(path, key)
    sender.send(upstream.port)
    upstream.serve()


def watch_memory(pid, largest, ends):
    while not ends.is_set():
        try:
            largest.value = max(largest.value, resident_kib(pid))
        except OSError:
            pass
        ends.wait(0.1)


def capacity(port, load):
    """What it serves in a second when it has all it can do, of few clients."""
    # The first ones open the connections to the upstream, which takes its time.
    clients = Clients(port, load, patience=60)
    count = SATURATING * (4 if load == "streams" else 1)
    press(clients, time.monotonic() + 6, count)
    clients.outcomes.clear()
    press(clients, time.monotonic() + 3, count)
    return sum(outcome.kind == "ok" for outcome in clients.outcomes) / 3


class Plan:
    """The load of one process of clients: some, then much, then some."""

    def __init__(self, port, load, began, rate, factor):
        self.port, self.load, self.began, self.rate, self.factor = port, load, began, rate, factor

    def follow(self, sender):
        clients = Clients(self.port, self.load)
        loaded = self.began + IDLE_SECONDS
        ended = loaded + LOAD_SECONDS
        lag = offer(clients, self.began, loaded, IDLE_PART * self.rate)
        if self.load == "closed":
            press(clients, ended, int(self.factor * SATURATING / PROCESSES))
        else:
            lag = max(lag, offer(clients, loaded, ended, self.factor * self.rate))
        lag = max(lag, offer(clients, ended, ended + AFTER_SECONDS, IDLE_PART * self.rate))
        while clients.open:
            clients.turn(0.05)
        sender.send((lag, [(outcome.due, outcome.seconds, outcome.kind, outcome.pause) for outcome in clients.outcomes]))


class Run:
    """One gateway under one load."""

    def __init__(self, name, load, wanted, upstream, authority):
        self.name, self.load = name, load
        with tempfile.TemporaryDirectory() as directory:
            limited = Limited(wanted.share)
            gateway = GATEWAYS[name](wanted, directory, upstream, authority)
            try:
                limited.take_in(gateway.pid)
                self.capacity = capacity(gateway.port, load)
                self.before = resident_kib(gateway.pid)
                largest, ends = multiprocessing.Value("q", 0), multiprocessing.Event()
                watcher = multiprocessing.Process(target=watch_memory, args=(gateway.pid, largest, ends), daemon=True)
                watcher.start()
                self.measure(gateway.port, wanted)
                ends.set()
                watcher.join()
                self.rss = largest.value
                if wanted.log and isinstance(gateway, Gateway):
                    print(gateway.said(), file=sys.stderr)
            finally:
                gateway.stop()
                limited.remove()

    def measure(self, port, wanted):
        began = time.monotonic() + 0.2
        rate = self.capacity / PROCESSES
        plan = Plan(port, self.load, began, rate, wanted.factor)
        pipes = []
        for _ in range(PROCESSES):
            receiver, sender = multiprocessing.Pipe(False)
            multiprocessing.Process(target=plan.follow, args=(sender,), daemon=True).start()
            pipes.append(receiver)
        outcomes = []
        self.lag = 0.0
        for pipe in pipes:
            lag, some = pipe.recv()
            self.lag = max(self.lag, lag)
            outcomes.extend(Outcome(*outcome) for outcome in some)
        loaded, ended = began + IDLE_SECONDS, began + IDLE_SECONDS + LOAD_SECONDS
        # Those of its first second are not under the load yet.
        self.seconds = LOAD_SECONDS - 1
        before = [outcome.seconds for outcome in outcomes if outcome.due < loaded and outcome.kind == "ok"]
        self.idle = percentile(before, 0.99)
        self.loaded = [outcome for outcome in outcomes if loaded + 1 <= outcome.due < ended]
        self.after = [outcome for outcome in outcomes if outcome.due >= ended]
        self.recovery = self.recovered(ended)

    def recovered(self, ended):
        """The first second after the load in which 99 of 100 that are due have an answer in twice the idle time."""
        for second in range(AFTER_SECONDS):
            due = [outcome for outcome in self.after if second <= outcome.due - ended < second + 1]
            well = [outcome for outcome in due if outcome.kind == "ok" and outcome.seconds <= 2 * self.idle]
            if due and len(well) >= 0.99 * len(due):
                return str(second + 1)
        return f"> {AFTER_SECONDS}"

    def row(self):
        admitted = [outcome.seconds for outcome in self.loaded if outcome.kind == "ok"]
        refused = [outcome for outcome in self.loaded if outcome.kind.isdigit()]
        broken = collections.Counter(outcome.kind for outcome in self.loaded
                                     if outcome.kind != "ok" and not outcome.kind.isdigit())
        told = collections.Counter(outcome.kind + (" with Retry-After" if outcome.pause else "") for outcome in refused)
        second = [outcome.seconds for outcome in refused]
        return (f"| {self.name} | {self.load} | {self.capacity:.0f} | {len(self.loaded) / self.seconds:.0f} "
                f"| {len(admitted) / self.seconds:.0f} | {self.idle * 1e3:.0f} | {percentile(admitted, 0.5) * 1e3:.0f} "
                f"| {percentile(admitted, 0.99) * 1e3:.0f} | {len(refused) / self.seconds:.0f} "
                f"| {', '.join(sorted(told)) or '-'} | {percentile(second, 0.99) * 1e3:.0f} "
                f"| {', '.join(f'{count / self.seconds:.0f} {kind}' for kind, count in broken.most_common()) or '-'} "
                f"| {self.before / 1024:.0f} | {self.rss / 1024:.0f} | {self.recovery} | {self.lag * 1e3:.0f} |")


HEADINGS = ("gateway", "load", "capacity/s", "offered/s", "admitted/s", "idle p99, ms", "admitted p50, ms", "p99, ms",
            "refused/s", "how", "p99, ms", "broken/s", "RSS before, MiB", "most", "recovered in, s", "lag, ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="target/release/flow-uring", help="(default: %(default)s)")
    parser.add_argument("--argument", action="append", help="of flow-uring, may be repeated")
    parser.add_argument("--factor", type=float, default=10, help="of what it can take (default: %(default)s)")
    parser.add_argument("--share", type=float, default=SHARE, help="of a core for the gateway (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--loads", default="closed,streams,kept,fresh")
    parser.add_argument("--log", action="store_true", help="prints what flow-uring has logged")
    parser.add_argument("gateways", nargs="*", help=f"of {', '.join(GATEWAYS)} (default: all)")
    wanted = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path, key = certificate(directory)
        receiver, sender = multiprocessing.Pipe(False)
        upstream = multiprocessing.Process(target=serve_upstream, args=(sender, path, key), daemon=True)
        upstream.start()
        port = receiver.recv()
        print("| " + " | ".join(HEADINGS) + " |\n" + "| --- " * len(HEADINGS) + "|", flush=True)
        for _ in range(wanted.rounds):
            for load in wanted.loads.split(","):
                for name in wanted.gateways or GATEWAYS:
                    print(Run(name, load, wanted, port, path).row(), flush=True)


if __name__ == "__main__":
    main()
