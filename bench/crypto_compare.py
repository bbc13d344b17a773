#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The crypto bdev over a null bdev of 4,096-byte blocks, held against the cipher itself as
# `openssl speed -evp aes-256-xts` runs it, both on the same core, in turn, both by the CPU time
# that they take, so that others on the machine matter little. Prints for 4 KiB and 64 KiB, writes
# against encryption and reads against decryption, the medians and their ratio; the promise is
# 85 %. Run by hand; results go to docs/benchmarks.md.
#
#     bench/crypto_compare.py [--nacre build/release/nacre] [--rounds 5] [--seconds 2] [--cpu N]
"""Holds the crypto bdev against openssl speed."""

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile

PROMISE = 0.85


def openssl_mib(options, size, decrypt):
    """MiB a second of CPU time, of the cipher on one buffer of this size."""
    command = ["openssl", "speed", "-mr", "-seconds", str(options.seconds), "-bytes", str(size),
               "-evp", "aes-256-xts"] + (["-decrypt"] if decrypt else [])
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # +F:22:AES-256-XTS:3456789.00   bytes a second
    line = [text for text in done.stdout.splitlines() if text.startswith("+F:")][-1]
    return float(line.rsplit(":", 1)[1]) / (1 << 20)


def nacre_mib(options, key_file, size, mode):
    """MiB a second of CPU time through the bdev."""
    uri = f"crypto:///c0?key_file={key_file}&base=null:///n0?size=1TiB"
    command = [options.nacre, "perf", "--bdev", uri, "--rw", mode, "--bs", str(size),
               "--iodepth", str(options.iodepth), "--runtime", str(options.seconds), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return size / json.loads(done.stdout)["cpu_ns_per_io"] * 1e9 / (1 << 20)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nacre", default="build/release/nacre")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--iodepth", type=int, default=4)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu})
    below = False
    print(f"{'':16} {'nacre MiB/s':>12} {'openssl MiB/s':>14} {'ratio':>7}   "
          f"median of {options.rounds}, ratios of each round")
    with tempfile.NamedTemporaryFile("w", suffix=".key") as key:
        key.write(secrets.token_hex(64))
        key.flush()
        for size in (4096, 65536):
            for mode, decrypt in (("write", False), ("read", True)):
                ours, theirs = [], []
                for _ in range(options.rounds):
                    ours.append(nacre_mib(options, key.name, size, mode))
                    theirs.append(openssl_mib(options, size, decrypt))
                each = [a / b for a, b in zip(ours, theirs)]
                ratio = statistics.median(each)
                below |= ratio < PROMISE
                print(f"{mode:6} {size >> 10:4} KiB  {statistics.median(ours):12.0f} "
                      f"{statistics.median(theirs):14.0f} {ratio:7.3f}   "
                      + " ".join(f"{r:.3f}" for r in each), flush=True)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
