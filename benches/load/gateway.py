"""A `flow-uring` in front of an upstream of its own (upstream.py), and what /proc tells of any gateway's processes."""

import ctypes
import json
import os
import re
import signal
import subprocess
import time

# On a machine where everything else is busy too, and under valgrind.
START_SECONDS_MAX = 60
# With streams open it would wait for their end.
STOP_SECONDS_MAX = 3
HOST = "upstream.test"
CREDENTIALS = [{"name": "measured", "clientId": "measured", "clientSecret": "made-up-secret-of-a-benchmark",
                "tenant": "nowhere"}]
LISTENING = re.compile(r"ANTHROPIC_BASE_URL=http://[^\s/:]+:([1-9][0-9]*)")
PR_SET_PDEATHSIG = 1


def certificate(directory):
    """Makes one for `HOST` that is issued by itself, and returns the paths of it and of its key."""
    path = os.path.join(directory, "upstream.pem")
    # rustls takes no authority for a server.
    parts = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", *parts, "-keyout", path + ".key", "-out", path], check=True, capture_output=True)
    return path, path + ".key"


class Gateway:
    """One shard on a free port. It ends with this process, however that ends."""

    def __init__(self, program, directory, upstream_port, authority, arguments=(), wrapper=()):
        self.log = os.path.join(directory, "gateway.log")
        secrets = os.path.join(directory, "secrets.json")
        with open(secrets, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(CREDENTIALS, file)
        address = f"127.0.0.1:{upstream_port}"
        upstream = ["--upstream", f"http://{address}"]
        if authority:
            upstream = ["--upstream", f"https://{HOST}", "--upstream-addr", address, "--upstream-ca", authority]
        # So that its memory may be looked at, and a debugger attached, by others than root too (docs/settings.md).
        environment = {
            "PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": directory, "XDG_STATE_HOME": directory,
            "FLOW_URING_ALLOW_CORE": "1",
            # A question for prices would be a request more than the clients have sent.
            "FLOW_PROXY_PRICES": "off",
        }
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*wrapper, program, "--port", "0", "--shards", "1", "--admin", "off", "--log-level", "WARNING",
                 "--secrets-file", secrets, *upstream, *arguments],
                cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=end_with_parent)
        self.pid = self.process.pid
        self.port = None
        try:
            self.port = self.wait_for_port()
        finally:
            if self.port is None:
                self.stop()

    def wait_for_port(self):
        until = time.monotonic() + START_SECONDS_MAX
        while self.process.poll() is None and time.monotonic() < until:
            if found := LISTENING.search(self.said()):
                return int(found[1])
            time.sleep(0.05)
        raise SystemExit(f"the gateway has not started:\n{self.said()}")

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self):
        # A stopped process ends only when it goes on.
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def family(pid):
    """A process and its descendants: some gateways serve by workers."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as children:
                    found.extend(map(int, children.read().split()))
        except OSError:
            continue
    return found


def cpu_seconds(pid):
    """What the gateway has used so far, kernel and user."""
    ticks = 0
    for member in family(pid):
        with open(f"/proc/{member}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_kib(pid):
    """Its resident memory."""
    kib = 0
    for member in family(pid):
        with open(f"/proc/{member}/smaps_rollup", encoding="ascii", errors="replace") as rollup:
            kib += next(int(line.split()[1]) for line in rollup if line.startswith("Rss:"))
    return kib
