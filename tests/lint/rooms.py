#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The include graph: a file of a room includes nacre headers of its own room and of those it may
# use, and nothing of the ones above (docs/architecture.md, section 1). Public headers include only
# the standard library and nacre headers. --self-test checks the checker.

import re
import sys

import sources

# Each room with the rooms that it may use directly; it may also use all that those may use.
ROOMS = {
    "core": [],
    "world": ["core"],
    "runtime": ["world"],
    "memory": ["runtime"],
    "bdev": ["memory"],
    "sim": ["bdev"],
    "modules": ["bdev"],
    "compute": ["bdev"],
    "nvme": ["bdev"],
    "nvmf": ["nvme", "compute"],
    "blob": ["bdev"],
    "lvol": ["blob"],
    "blobfs": ["blob"],
    "zlfs": ["bdev"],
    "serve": ["bdev", "compute", "blobfs", "zlfs"],
    "rpc": ["serve", "modules", "nvmf", "lvol"],
    "app": ["rpc"],
    "rocksdb": ["app"],
    "chunk": ["blobfs", "rocksdb"],
    "observe": ["app"],
    "cli": ["observe", "sim"],
}
# A module may use the one room that it adapts besides.
ADAPTED = {"nvme": "nvme", "lvol": "lvol"}
# Tests, benchmarks and fuzz targets may stand on the simulated world and on modules besides, and so
# may what several tests of a room share: a private header test_*.hpp.
TOOLS = re.compile(r".*(_test\.cpp|_bench\.cpp|_fuzz\.cpp|/test_\w+\.hpp)$")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
STANDARD = re.compile(r"[a-z_0-9]+$")          # <vector>
PRIVATE_NAMES = re.compile(r"(fmt|spdlog|nlohmann|CLI|gtest|gmock|benchmark)/")


def allowed(room):
    below, todo = {room}, list(ROOMS[room])
    while todo:
        name = todo.pop()
        if name not in below:
            below.add(name)
            todo += ROOMS[name]
    return below


def room_of(path):
    """The room that a path of the tree belongs to, or None where any room may be used."""
    for pattern in (r"include/nacre/(\w+)[/.]", r"src/(\w+)/", r"(modules|sim)/",
                    r"plugins/(rocksdb)/"):
        match = re.match(pattern, path)
        if match:
            return match.group(1)
    return None


def target_of(included):
    """The room that an #include names, or None if it names no room of nacre."""
    match = re.match(r"nacre/(\w+)[/.]", included) or re.match(r"(modules|sim)/", included)
    return match.group(1) if match else None


def room_problems(path, text):
    room = room_of(path)
    if room is None:
        return
    if room not in ROOMS:
        yield f"{path}: the room '{room}' is not in the table of tests/lint/rooms.py"
        return
    below = allowed(room)
    if room == "modules" and path.count("/") > 1 and path.split("/")[1] in ADAPTED:
        below |= allowed(ADAPTED[path.split("/")[1]])
    if TOOLS.match(path) and "bdev" in below:
        below |= allowed("sim") | allowed("modules")
    for match in INCLUDE.finditer(text):
        included = target_of(match.group(2))
        where = f"{path}:{sources.line_of(text, match.start())}"
        if included is not None and included not in below:
            yield f"{where}: {room} may not include {match.group(2)}, of the room {included}"
        if ".." in match.group(2).split("/"):
            yield f"{where}: includes by '..'; private headers are used only beside where they lie"


def header_problems(path, text):
    if not path.startswith("include/"):
        return
    for match in INCLUDE.finditer(text):
        kind, name = match.groups()
        if kind == '"' and not name.startswith("nacre/") or kind == "<" and (
                PRIVATE_NAMES.match(name) or not (STANDARD.match(name) or is_system(name))):
            where = f"{path}:{sources.line_of(text, match.start())}"
            yield (f"{where}: a public header includes {name};"
                   " only the standard library and nacre headers")


def is_system(name):
    """<sys/socket.h>, <linux/fs.h>: types that an interface of the world room may need."""
    return re.match(r"((sys|linux|netinet|arpa|asm|bits)/)?\w+\.h$", name) is not None \
        and not name.startswith(("isa-l", "liburing", "uuid"))


def problems_in(path, text):
    return list(room_problems(path, text)) + list(header_problems(path, text))


def self_test():
    good = [("src/bdev/a.cpp", '#include "nacre/core/error.hpp"\n#include "private.hpp"\n'),
            ("src/bdev/a_test.cpp", '#include "nacre/sim/world.hpp"\n'),
            ("src/bdev/a_test.cpp", '#include "modules/null/null.hpp"\n'),
            ("src/bdev/test_a.hpp", '#include "nacre/sim/world.hpp"\n'),
            ("modules/null/null.cpp", '#include "nacre/bdev/bdev.hpp"\n#include <fmt/core.h>\n'),
            ("src/rpc/a.cpp", '#include "modules/null/null.hpp"\n'),
            ("include/nacre/world/a.hpp", "#include <sys/socket.h>\n#include <vector>\n"),
            ("tests/a_test.cpp", '#include "nacre/app/app.hpp"\n')]
    bad = [("src/core/a.cpp", '#include "nacre/world/world.hpp"\n'),
           ("include/nacre/runtime/a.hpp", '#include "nacre/bdev/bdev.hpp"\n'),
           ("src/runtime/a_test.cpp", '#include "nacre/rpc/server.hpp"\n'),
           ("src/bdev/a.cpp", '#include "nacre/sim/world.hpp"\n'),
           ("src/bdev/a_test.hpp", '#include "nacre/sim/world.hpp"\n'),
           ("modules/null/null.cpp", '#include "nacre/serve/nbd.hpp"\n'),
           ("modules/null/null.cpp", '#include "../raid1/raid1.hpp"\n'),
           ("src/unknown/a.cpp", ""),
           ("include/nacre/core/a.hpp", "#include <fmt/core.h>\n"),
           ("include/nacre/core/a.hpp", "#include <liburing.h>\n"),
           ("include/nacre/core/a.hpp", '#include "private.hpp"\n')]
    wrong = [f"refused, but good: {s}" for s in good if problems_in(*s)]
    return wrong + [f"accepted, but bad: {s}" for s in bad if not problems_in(*s)]


def main():
    if "--self-test" in sys.argv:
        return sources.report(self_test())
    problems = []
    for path in sources.code_files():
        problems += problems_in(path, sources.read(path))
    return sources.report(problems)


if __name__ == "__main__":
    sys.exit(main())
