"""The gateways that overload.py compares, each with a share of a core."""

import os
import shutil
import signal
import socket
import subprocess
import time

from gateway import HOST, Gateway, end_with_parent, family

# A gateway stands still for as long as this less its share.
PERIOD_MICROSECONDS = 50_000


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
