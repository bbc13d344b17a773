#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# NBD servers side by side over one file, loaded by fio --ioengine=nbd: nacre, qemu-nbd, nbdkit.
# Each round runs every server once, in turn, with the page cache dropped before (as root; else the
# figures are warm and the report says so). Prints the medians, their ratio to nacre's, and the
# server's CPU time per I/O. Run by hand; results go to docs/benchmarks.md.
#
#     bench/nbd_compare.py [--server build/release/example_nbd_server] [--rounds 5] [--rw randread]
"""Compares NBD servers."""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def server_commands(server, image, socket):
    """All of them past the page cache where they can."""
    return {
        "nacre": [server, f"file://{image}", socket],
        "qemu-nbd": ["qemu-nbd", "--format=raw", "--cache=none", "--aio=io_uring", "--persistent",
                     "--shared=0", f"--socket={socket}", str(image)],
        "nbdkit": ["nbdkit", "--foreground", f"--unix={socket}", "file", str(image)],
    }


def drop_caches():
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    except OSError:
        return False
    return True


def cpu_ns(pid):
    """Of all threads, those that have ended too."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_NS


def load(uri, options, mode):
    command = ["fio", "--name=load", "--ioengine=nbd", f"--uri={uri}", f"--rw={mode}",
               f"--bs={options.bs}", f"--iodepth={options.iodepth}", "--time_based",
               f"--runtime={options.runtime}", f"--size={options.size_mib}m", "--norandommap",
               "--randrepeat=0", "--output-format=json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    side = job["read" if "read" in mode else "write"]
    return {"iops": side["iops"], "ios": side["total_ios"],
            "p99_us": side["clat_ns"]["percentile"]["99.000000"] / 1000}


def run_once(name, command, socket, options, mode):
    pathlib.Path(socket).unlink(missing_ok=True)
    cold = drop_caches()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while not os.path.exists(socket):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{name} did not start: {' '.join(command)}")
                time.sleep(0.02)
            before = cpu_ns(process.pid)
            figures = load(f"nbd+unix:///?socket={socket}", options, mode)
            figures["cpu_us"] = (cpu_ns(process.pid) - before) / max(figures["ios"], 1) / 1000
        finally:
            process.send_signal(signal.SIGTERM)
    figures["cold"] = cold
    return figures


def compare(options, mode, image, socket):
    commands = server_commands(options.server, image, socket)
    results = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            results[name].append(run_once(name, command, socket, options, mode))
    cold = all(run["cold"] for runs in results.values() for run in runs)
    print(f"{mode}, {options.bs}, depth {options.iodepth}, median of {options.rounds} interleaved"
          f" rounds of {options.runtime} s, {'cold' if cold else 'WARM (not root)'} page cache")
    ours = statistics.median(run["iops"] for run in results["nacre"])
    for name, runs in results.items():
        iops = [run["iops"] for run in runs]
        print(f"  {name:10} {statistics.median(iops):9.0f} IOPS"
              f"  ({min(iops):.0f} to {max(iops):.0f})"
              f"  nacre is {ours / statistics.median(iops):5.2f} times"
              f"  p99 {statistics.median(run['p99_us'] for run in runs):7.0f} us"
              f"  server CPU {statistics.median(run['cpu_us'] for run in runs):6.2f} us/IO")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="build/release/example_nbd_server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtime", type=int, default=3)
    parser.add_argument("--rw", action="append", choices=["randread", "randwrite", "read", "write"])
    parser.add_argument("--bs", default="4k")
    parser.add_argument("--iodepth", type=int, default=32)
    parser.add_argument("--size-mib", type=int, default=2048)
    parser.add_argument("--dir", default=None, help="where the file is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        image = pathlib.Path(folder) / "disk.img"
        with open(image, "wb") as out:  # real blocks: holes would be answered from nowhere
            for _ in range(options.size_mib):
                out.write(os.urandom(1 << 20))
        for mode in options.rw or ["randread", "randwrite"]:
            compare(options, mode, image, os.path.join(folder, "nbd.sock"))


if __name__ == "__main__":
    main()
