#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What every file of the tree keeps to: a licence line and a comment that says what the file is, no
# more than 800 lines, no leftovers, no path of the machine that it was written on.
# --self-test checks the checker.

import re
import sys

import sources

LINES_MAX = 800
COLUMNS_MAX = 100
SPDX = "SPDX-License-Identifier: BSD-3-Clause"
SCRIPTS = (".py", ".sh", ".cmake", "CMakeLists.txt")
# Written apart, so that this file passes its own test.
LEFTOVERS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
UNFINISHED = re.compile(r"\b(not imple" + r"mented|unimple" + r"mented|st" + r"ub)\b",
                        re.IGNORECASE)
PRODUCT = ("src/", "include/", "modules/", "plugins/", "programs/")
MACHINE = re.compile(r"(?<![\w.$}])/(?:wo" + r"rk|fa" + r"rm|ro" + r"ot|ho" + r"me/\w+)/")
TEXT = sources.CODE + SCRIPTS + (".md", ".txt", ".tsv", ".json", ".in", ".def", "run", "test")


def explained_elsewhere(path, headers):
    """A x.cpp is explained by its x.hpp, and a test or benchmark by what it tests."""
    name = path.rsplit("/", 1)[-1]
    return path.endswith(("_test.cpp", "_bench.cpp")) or (
        name.endswith(".cpp") and name.removesuffix(".cpp") + ".hpp" in headers)


def head_problems(path, lines, headers):
    mark = "//" if path.endswith(sources.CODE) else "#"
    head = lines[1:4] if lines and lines[0].startswith("#!") else lines[:3]
    if not any(line.startswith(f"{mark} {SPDX}") for line in head):
        yield f"{path}:1: the licence line is missing: {mark} {SPDX}"
        return
    if explained_elsewhere(path, headers):
        return
    if not any(re.match(rf"{mark} \S+ \S+", line) and SPDX not in line for line in lines[:8]):
        yield f"{path}:1: a comment that says what the file is should follow the licence line"


def code_problems(path, lines):
    if len(lines) > LINES_MAX:
        yield f"{path}: {len(lines)} lines; split it along its ideas, {LINES_MAX} is the limit"
    if path.endswith(".hpp") and "#pragma once" not in lines:
        yield f"{path}: #pragma once is missing"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX:
            yield f"{path}:{number}: {len(line)} columns, {COLUMNS_MAX} is the limit"


def own_header(path, headers):
    """The public header whose source this is, as it is included; None if it has none."""
    if not path.endswith(".cpp"):
        return None
    stem = path.removesuffix(".cpp")
    name = (stem if stem.startswith("modules/") else "nacre/" + stem.removeprefix("src/")) + ".hpp"
    return name if name in headers else None


def include_problems(path, lines, headers):
    """A header that needs what only others include fails to compile in its own source."""
    own = own_header(path, headers)
    first = next((line for line in lines if line.startswith("#include")), None)
    if own and first not in (f'#include "{own}"', f'#include "{own.rsplit("/", 1)[-1]}"'):
        yield f'{path}: #include "{own}" comes first, so that it is compiled by itself'


def line_problems(path, lines):
    for number, line in enumerate(lines, 1):
        found = LEFTOVERS.search(line) or path.startswith(PRODUCT) and UNFINISHED.search(line)
        if found:
            yield f"{path}:{number}: a leftover: {found.group(0)}"
        place = MACHINE.search(line)
        if place or sources.TOP != "/" and sources.TOP + "/" in line:
            yield f"{path}:{number}: a path of one machine: {line.strip()}"


KNOWN = frozenset({"known.hpp", "nacre/core/own.hpp", "modules/m/m.hpp"})


def problems_in(path, text, headers=KNOWN):
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    found = list(line_problems(path, lines)) if path.endswith(TEXT) else []
    if path.endswith(sources.CODE + SCRIPTS) or path in ("run", "test", ".ci/run"):
        found += head_problems(path, lines, headers)
    if path.endswith(sources.CODE + (".py",)):
        found += code_problems(path, lines)
        found += include_problems(path, lines, headers)
    return found


def self_test():
    head = f"// {SPDX}\n//\n// What this is, in a sentence.\n"
    good = [("src/a.cpp", head + "int x;\n"), ("include/a.hpp", head + "#pragma once\n"),
            ("run", f"#!/bin/sh\n# {SPDX}\n#\n# Runs it all.\n"), ("README.md", "no head\n"),
            ("src/a.cpp", head + 'auto path = dir + "/root.img";\n'),
            ("src/a.cpp", head + 'auto path = "/dev/null";\n'),
            ("src/known.cpp", f"// {SPDX}\nint x;\n"), ("src/b_test.cpp", f"// {SPDX}\nint x;\n"),
            ("src/core/own.cpp", head + '#include "nacre/core/own.hpp"\n#include <new>\n')]
    bad = [("src/a.cpp", "int x;\n"), ("src/a.cpp", f"// {SPDX}\nint x;\n"),
           ("include/a.hpp", head), ("src/a.cpp", head + "int x;\n" * LINES_MAX),
           ("src/a.cpp", head + "//" + "x" * 99 + "\n"),
           ("src/a.cpp", head + "// TO" + "DO: later\n"),
           ("src/a.cpp", head + "// not imple" + "mented\n"),
           ("src/core/own.cpp", head + '#include <new>\n#include "nacre/core/own.hpp"\n'),
           ("modules/m/m.cpp", head + "#include <new>\n"),
           ("docs/a.md", "see /ho" + "me/me/notes\n"), ("docs/a.md", "see /ro" + "ot/notes\n")]
    wrong = [f"refused, but good: {s} {problems_in(*s)}" for s in good if problems_in(*s)]
    return wrong + [f"accepted, but bad: {s}" for s in bad if not problems_in(*s)]


def main():
    if "--self-test" in sys.argv:
        return sources.report(self_test())
    problems = []
    paths = sources.files()
    headers = {path for path in paths if path.endswith(".hpp")}
    headers |= {path.rsplit("/", 1)[-1] for path in headers}
    headers |= {path.removeprefix("include/") for path in headers}
    for path in paths:
        if path.endswith(TEXT):
            problems += problems_in(path, sources.read(path), headers)
    return sources.report(problems)


if __name__ == "__main__":
    sys.exit(main())
