#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# budgets.py [--build DIR] [--update] [GROUP...]
#
# Counts instructions and allocations per operation and holds them against bench/budgets.tsv. Each
# row's command runs twice under callgrind, for N1 and for N2 operations; the difference is what the
# operations cost, without start and end. Callgrind counts exactly, so rows repeat to a fraction of
# an instruction.
#
# Columns of the table, separated by tabs:
#   group         rows that are counted together: the test budgets.<group>
#   name          of the operation
#   limit         instructions an operation may take at most; "N+GROUP.NAME": N more than that other
#                 row takes in the same run; "-": no promise
#   allocations   calls of malloc and its kin an operation may make at most
#   measured      instructions it takes; may only fall: --update writes lower figures, never higher
#   n1, n2        numbers of operations
#   command       {build} is the build folder, {n} the number of operations
#   note          for the reader
#
# Exit status 0: within the table. 1: above it, or a command failed. 2: usage.

import argparse
import concurrent.futures
import os
import re
import shlex
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(HERE, "budgets.tsv")
COLUMNS = ["group", "name", "limit", "allocations", "measured", "n1", "n2", "command", "note"]
# What another build of the same source may differ by: layout of strings, alignment of copies.
SLACK_INSTRUCTIONS = 0.5
SLACK_RATIO = 1.01
SLACK_ALLOCATIONS = 0.01
ALLOCATORS = re.compile(r"(malloc|calloc|realloc|aligned_alloc|posix_memalign|memalign)$")


def read_table():
    """Lines as they are, and the rows among them by line number."""
    with open(TABLE, encoding="utf-8") as text:
        lines = text.read().splitlines()
    rows = {}
    for number, line in enumerate(lines):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if cells == COLUMNS:
            continue
        if len(cells) != len(COLUMNS):
            sys.exit(f"{TABLE}:{number + 1}: {len(cells)} columns, expected {len(COLUMNS)}")
        rows[number] = dict(zip(COLUMNS, cells))
    return lines, rows


def count(command):
    """Instructions and allocator calls of one run under callgrind."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        run = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", *command],
            capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)}: exit status {run.returncode}\n{run.stderr}")
        with open(out.name, encoding="utf-8", errors="replace") as profile:
            return read_profile(profile)


def read_profile(profile):
    instructions = allocations = 0
    names, callee = {}, ""
    for line in profile:
        if line.startswith(("cfn=", "fn=")):
            # Names are written once: "cfn=(12) malloc", later "cfn=(12)".
            match = re.match(r"c?fn=(\(\d+\))(?: (.*))?$", line.rstrip("\n"))
            if match.group(2) is not None:
                names[match.group(1)] = match.group(2)
            if line.startswith("cfn="):
                callee = names[match.group(1)]
        elif line.startswith("calls="):
            if ALLOCATORS.match(callee):
                allocations += int(line[6:].split()[0])
        elif line.startswith("summary:") or (line.startswith("totals:") and instructions == 0):
            instructions = int(line.split(":")[1].split()[0])
    return instructions, allocations


def measure(row, build):
    """Instructions and allocations per operation."""
    n1, n2 = int(row["n1"]), int(row["n2"])
    (i1, a1), (i2, a2) = (
        count(shlex.split(row["command"].format(build=build, n=n))) for n in (n1, n2))
    return (i2 - i1) / (n2 - n1), (a2 - a1) / (n2 - n1)


def judge(row, instructions, allocations, base):
    """What is wrong with the row, or None. `base`: what the row it is held against takes."""
    if row["limit"] != "-":
        limit = float(row["limit"].partition("+")[0]) + base
        if instructions > limit + SLACK_INSTRUCTIONS:
            return f"above the budget of {row['limit']} instructions"
    allowed = float(row["measured"]) * SLACK_RATIO + SLACK_INSTRUCTIONS
    if row["measured"] != "-" and instructions > allowed:
        return f"was {row['measured']} instructions; the table may only fall"
    if allocations > float(row["allocations"]) + SLACK_ALLOCATIONS:
        return f"more than {row['allocations']} allocations"
    return None


def main():
    parser = argparse.ArgumentParser(description="Instructions per operation against the table.")
    parser.add_argument("--build", default=os.environ.get("NACRE_BUILD_DIR", "build/release"))
    parser.add_argument("--update", action="store_true", help="write lower figures to the table")
    parser.add_argument("group", nargs="*")
    options = parser.parse_args()
    lines, rows = read_table()
    unknown = set(options.group) - {row["group"] for row in rows.values()}
    if unknown:
        print(f"{TABLE}: no rows of group {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = {number: row for number, row in rows.items()
              if not options.group or row["group"] in options.group}
    build = os.path.abspath(options.build)

    names = {f"{row['group']}.{row['name']}": number for number, row in rows.items()}
    bases = {number: row["limit"].partition("+")[2] for number, row in chosen.items()}
    strangers = {base for base in bases.values() if base and names.get(base) not in chosen}
    if strangers:
        print(f"{TABLE}: limits refer to {', '.join(sorted(strangers))}, which is not counted",
              file=sys.stderr)
        return 2

    failures = 0
    print(f"{'operation':32} {'instr/op':>9} {'limit':>7} {'was':>8} {'alloc/op':>9}")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = {number: pool.submit(measure, row, build) for number, row in chosen.items()}
        for number, row in chosen.items():
            name = f"{row['group']}.{row['name']}"
            try:
                instructions, allocations = futures[number].result()
                base = futures[names[bases[number]]].result()[0] if bases[number] else 0
            except (RuntimeError, OSError) as problem:
                failures += 1
                print(f"{name:32} {problem}")
                continue
            wrong = judge({**row, "measured": "inf" if row["measured"] == "-" else row["measured"]},
                          instructions, allocations, base)
            failures += wrong is not None
            print(f"{name:32} {instructions:9.1f} {row['limit']:>7} {row['measured']:>8}"
                  f" {allocations:9.2f}{'  FAILED: ' + wrong if wrong else ''}")
            if row["measured"] == "-" or instructions < float(row["measured"]):
                row["measured"] = f"{instructions:.1f}"
                lines[number] = "\t".join(row[column] for column in COLUMNS)
    if options.update:
        with open(TABLE, "w", encoding="utf-8") as text:
            text.write("\n".join(lines) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
