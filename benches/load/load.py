#!/usr/bin/env python3
"""Puts load on a running gateway with wrk and oha, and prints one table. See README.md beside this file."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

BODY = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello there"}]}'
STREAM = BODY[:-1] + ',"stream":true}'
HEADERS = ("Content-Type: application/json", "X-Api-Key: any")

# wrk has no machine-readable report: this prints one behind its own.
WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = [==[%s]==]
%s
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('REPORT {"requests":%%d,"seconds":%%f,"p50":%%f,"p99":%%f,"errors":%%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def cpu_seconds(pid):
    """What a process has used so far, kernel and user; None where it cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(url, connections, seconds):
    fields = "\n".join('wrk.headers["{}"] = "{}"'.format(*field.split(": ", 1)) for field in HEADERS)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK_SCRIPT % (BODY, fields))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script.name]
        output = run([*command, url + "/v1/chat/completions"], seconds)
    report = json.loads(re.search(r"^REPORT (.*)$", output, re.M)[1])
    return report["requests"], report["requests"] / report["seconds"], report["p50"], report["p99"], report["errors"]


def oha(url, body, seconds, *more):
    fields = [word for field in HEADERS for word in ("-H", field)]
    command = ["oha", "--no-tui", "--output-format", "json", "-m", "POST", "-d", body, "-z", f"{seconds}s", *fields, *more]
    report = json.loads(run([*command, url + "/v1/chat/completions"], seconds))
    statuses = {int(status): count for status, count in report["statusCodeDistribution"].items()}
    requests = sum(statuses.values())
    # Requests that the end of the run cut are no failures.
    failed = sum(count for what, count in report["errorDistribution"].items() if "deadline" not in what)
    failed += sum(count for status, count in statuses.items() if status != 200)
    percentile = {name: (value or 0) * 1e3 for name, value in report["latencyPercentiles"].items()}
    return requests, requests / report["summary"]["total"], percentile["p50"], percentile["p99"], failed


def run(command, seconds):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8899", help="where the gateway listens (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="how long each row runs (default: %(default)s)")
    parser.add_argument("--connections", default="1,64,256", help="rows of wrk (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=500, help="requests a second of the open loop (default: %(default)s)")
    parser.add_argument("--streams", type=int, default=100, help="event streams at a time (default: %(default)s)")
    parser.add_argument("--pid", type=int, help="the gateway's process: adds its CPU time for each request")
    wanted = parser.parse_args()
    host = wanted.url.split("://", 1)[-1].rsplit(":", 1)[0].strip("[]")
    if host not in ("127.0.0.1", "::1", "localhost"):
        sys.exit(f"{host}: only a gateway on this machine is put under load")
    missing = [tool for tool in ("wrk", "oha") if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {' '.join(missing)} (apt install wrk; cargo install oha --locked)")
    try:
        urllib.request.urlopen(wanted.url + "/", timeout=5).read()
    except OSError as error:
        sys.exit(f"no gateway answers at {wanted.url}: {error}")

    rows = [(f"closed loop, {count} connections", lambda count=count: wrk(wanted.url, count, wanted.seconds))
            for count in map(int, wanted.connections.split(","))]
    rows.append((f"open loop, {wanted.rate} requests/s",
                 lambda: oha(wanted.url, BODY, wanted.seconds, "-q", str(wanted.rate), "-c", "64", "--latency-correction")))
    rows.append((f"whole streams, {wanted.streams} at a time",
                 lambda: oha(wanted.url, STREAM, wanted.seconds, "-c", str(wanted.streams))))
    print(f"| {'load':32} | requests/s | p50 ms | p99 ms | CPU µs each | failed |")
    print(f"| {'-' * 32} | ---------- | ------ | ------ | ----------- | ------ |")
    all_failed = 0
    for name, load in rows:
        before = cpu_seconds(wanted.pid)
        requests, rate, p50, p99, failed = load()
        after = cpu_seconds(wanted.pid)
        cpu = "-" if before is None or after is None or not requests else f"{(after - before) * 1e6 / requests:.0f}"
        print(f"| {name:32} | {rate:10.0f} | {p50:6.1f} | {p99:6.1f} | {cpu:>11} | {failed:6} |", flush=True)
        all_failed += failed
    sys.exit(1 if all_failed else 0)


if __name__ == "__main__":
    main()
