#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What an idle daemon costs and how fast it comes, answers and goes. Prints; judges nothing:
#
#     NACRE_BINARY=build/release/nacre bench/daemon_figures.py [--json]
#
# Each start is `nacre serve --quickstart` in a folder that exists (a second start). Ready: from
# before the exec until its line is read. RPC: on one open connection, after a second of idleness.

import json
import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
from daemon import Client, Daemon  # noqa: E402

STARTS = 11
REQUESTS = 1000
IDLE_S = 10


def start(folder):
    began = time.perf_counter()
    daemon = Daemon("--quickstart", "--data", folder + "/data", folder=folder)
    return daemon, (time.perf_counter() - began) * 1e3


def stop(daemon):
    began = time.perf_counter()
    code = daemon.stop()
    assert code == 0, daemon.stderr()
    return (time.perf_counter() - began) * 1e3


def starts_and_stops(folder):
    ready, stopped = [], []
    for _ in range(STARTS + 1):
        daemon, ms = start(folder)
        with daemon:
            ready.append(ms)
            stopped.append(stop(daemon))
    return {"first_ready_ms": ready[0],
            "ready_ms": statistics.median(ready[1:]), "ready_ms_best": min(ready[1:]),
            "stop_ms": statistics.median(stopped[1:]), "stop_ms_best": min(stopped[1:])}


def latency_us(client):
    request = b'{"jsonrpc":"2.0","method":"spdk_get_version","id":1}'
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        client.socket.sendall(request)
        client.socket.recv(65536)
        times.append((time.perf_counter() - began) * 1e6)
    return times


def while_idle(folder):
    daemon, _ = start(folder)
    with daemon, Client(daemon.socket) as client:
        client.call("spdk_get_version")
        time.sleep(1)
        times = latency_us(client)
        resident = daemon.resident_bytes()
        cpu = daemon.cpu_seconds()
        time.sleep(IDLE_S)
        cpu = daemon.cpu_seconds() - cpu
        stop(daemon)
    return {"rpc_us": statistics.median(times), "rpc_us_p99": sorted(times)[REQUESTS * 99 // 100],
            "rss_mib": resident / 2**20, "idle_cpu_percent": 100 * cpu / IDLE_S}


def measure():
    with tempfile.TemporaryDirectory() as folder:
        return starts_and_stops(folder) | while_idle(folder)


if __name__ == "__main__":
    figures = measure()
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:18} {value:10.3f}")
