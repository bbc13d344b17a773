#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Debian's db_bench on nacre (a blobfs over a file bdev, which is past the kernel's page cache,
# libnacre_rocksdb.so preloaded) and on the file system that the file lies in, with direct I/O, in
# turn on the same disk. nacre's side reads through the blobfs's own cache, of --parameters' size,
# or past it with --direct. Each benchmark is a process of its own; those that read have a database
# that was filled and compacted before. Prints the medians of the rounds, the median of each round's
# ratio, and the CPU time of the process per operation. "sync" and "sync4" are fillrandom with
# --sync, by 1 and 4 threads. Run by hand, as root (else the page cache stays warm); results go to
# docs/benchmarks.md.
#
#     bench/rocksdb_compare.py [--build build/release] [--rounds 3] [--num 1000000] [--only sync,…]
"""Holds db_bench on nacre against db_bench on a file system."""

import argparse
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

COMMON = ["--key_size=16", "--value_size=400", "--compression_type=none", "--verify_checksum=true",
          "--cache_size=67108864", "--write_buffer_size=33554432",
          "--target_file_size_base=33554432", "--max_background_jobs=2", "--seed=1"]
DIRECT = ["--use_direct_reads=true", "--use_direct_io_for_flush_and_compaction=true"]
# Benchmark: the arguments, with the share of --num that it does; whether it needs a database.
BENCHMARKS = {
    "fillseq": (["--benchmarks=fillseq"], 1, False),
    "fillrandom": (["--benchmarks=fillrandom"], 1, False),
    "overwrite": (["--benchmarks=overwrite"], 1, True),
    "readrandom": (["--benchmarks=readrandom"], 0.1, True),
    "readwhilewriting": (["--benchmarks=readwhilewriting"], 0.1, True),
    "seekrandom": (["--benchmarks=seekrandom", "--seek_nexts=10"], 0.1, True),
    "compact": (["--benchmarks=compact"], 1, True),
    "sync": (["--benchmarks=fillrandom", "--sync=true"], 0.05, False),
    "sync4": (["--benchmarks=fillrandom", "--sync=true", "--threads=4"], 0.025, False),
}
LINE = re.compile(r"^(\w+) +: +([\d.]+) micros/op (\d+) ops/sec ([\d.]+) seconds (\d+) operations",
                  re.MULTILINE)


def drop_caches():
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    except OSError:
        return False
    return True


class Nacre:
    def __init__(self, options, folder):
        self.image = os.path.join(folder, "disk.img")
        with open(self.image, "wb") as out:     # real blocks, as a disk has them
            for _ in range(options.size_mib):
                out.write(bytes(1 << 20))
            os.fsync(out.fileno())
        self.where = [f"--fs_uri=nacre://file://{self.image}?mkfs=auto{options.parameters}",
                      "--db=/db", *(DIRECT if options.direct else [])]
        plugin = os.path.abspath(os.path.join(options.build, "libnacre_rocksdb.so"))
        self.environment = {**os.environ, "LD_PRELOAD": plugin}


class Ext4:
    def __init__(self, _, folder):
        self.where = ["--db=" + os.path.join(folder, "db"), *DIRECT]
        self.environment = dict(os.environ)


def run(side, arguments):
    """Operations a second, and CPU microseconds of an operation."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["db_bench", *side.where, *COMMON, *arguments], env=side.environment,
                          capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = LINE.search(done.stdout)
    if done.returncode != 0 or not line:
        sys.exit(f"{' '.join(done.args)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds, operations = float(line.group(4)), int(line.group(5))
    return {"rate": operations / seconds, "cpu_us": cpu * 1e6 / operations}


def measure(side, name, options):
    arguments, share, needs_database = BENCHMARKS[name]
    count = max(int(options.num * share), 1)
    if needs_database:
        run(side, ["--benchmarks=fillrandom", f"--num={options.num}"])
        if name != "compact":
            run(side, ["--benchmarks=compact", "--use_existing_db", f"--num={options.num}"])
        arguments = [*arguments, "--use_existing_db", f"--num={options.num}"]
        if share != 1:
            arguments += [f"--reads={count}"]
    else:
        arguments = [*arguments, f"--num={count}"]
    drop_caches()
    return run(side, arguments)


def report(name, rounds):
    median = {side: {key: statistics.median(r[side][key] for r in rounds)
                     for key in ("rate", "cpu_us")} for side in ("nacre", "ext4")}
    ratio = statistics.median(r["nacre"]["rate"] / r["ext4"]["rate"] for r in rounds)
    print(f"{name:17} {median['nacre']['rate']:10.0f} {median['ext4']['rate']:10.0f} {ratio:7.2f}"
          f"   {median['nacre']['cpu_us']:9.2f} {median['ext4']['cpu_us']:9.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--size-mib", type=int, default=4096)
    parser.add_argument("--only", default=None, help="benchmarks, separated by commas")
    parser.add_argument("--parameters", default="", help="of nacre's address: &cache=1GiB")
    parser.add_argument("--direct", action="store_true", help="nacre's side past its cache, too")
    parser.add_argument("--dir", default=None, help="a folder on the disk")
    options = parser.parse_args()
    if shutil.which("db_bench") is None:
        sys.exit("db_bench is missing: install rocksdb-tools")
    names = [n for n in BENCHMARKS if options.only is None or n in options.only.split(",")]
    with tempfile.TemporaryDirectory(prefix="rocksdb-compare-", dir=options.dir) as folder:
        sides = {"nacre": Nacre(options, folder), "ext4": Ext4(options, folder)}
        print(f"{options.num} keys, {options.rounds} rounds in turn, both: {' '.join(COMMON)}")
        for name, side in sides.items():
            print(f"{name}: {' '.join(side.where)}")
        if not drop_caches():
            print("not root: the page cache is WARM")
        print(f"{'':17} {'nacre op/s':>10} {'ext4 op/s':>10} {'ratio':>7}   {'CPU us/op':>9} "
              f"{'ext4':>9}")
        for name in names:
            rounds = []
            for number in range(options.rounds):
                order = list(sides) if number % 2 == 0 else list(reversed(sides))
                rounds.append({side: measure(sides[side], name, options) for side in order})
            report(name, rounds)


if __name__ == "__main__":
    main()
