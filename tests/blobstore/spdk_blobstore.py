#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Reads and checks images of SPDK's blobstores and lvolstores. It was written from the text of the
# format alone and shares nothing with nacre, so that it can be asked whether nacre keeps to it.
#
#   spdk_blobstore.py check IMAGE...      is every byte of the metadata explained, and consistent?
#   spdk_blobstore.py info IMAGE          the super block and what it amounts to
#   spdk_blobstore.py list IMAGE          the blobs
#   spdk_blobstore.py dump IMAGE BLOB     all that the metadata say about one
#   spdk_blobstore.py read IMAGE BLOB     its data to standard output, through its parents
#
# IMAGE is a file, also .gz; BLOB an id, a UUID or a name. --json: for programs. --strict: warnings
# count, too. --sha256: the sum instead of the data. --esnap [ID=]FILE: an external snapshot.
# Exit status: 0 clean, 1 inconsistent, 2 unusable.

import argparse
import contextlib
import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from blobstore_check import checker, runs  # noqa: E402
from blobstore_format import (CLEAR_METHODS, DESCRIPTORS, EXTERNAL, NONE_BLOB,  # noqa: E402
                              finding, super_block)
from blobstore_image import image, unusable  # noqa: E402
from blobstore_store import store  # noqa: E402


def check(source):
    """(status, findings) of a file, or of what behaves like blobstore_image.image."""
    try:
        with contextlib.ExitStack() as files:
            if isinstance(source, str):
                source = files.enter_context(image(source))
            findings = checker(store(source)).run()
    except unusable as problem:
        findings = problem.findings or [finding("fatal", "image", "image", str(problem), None)]
    levels = {found.level for found in findings}
    status = 2 if "fatal" in levels else int("error" in levels)
    return status, [found._asdict() for found in findings]


def text_of(value):
    """An xattr's value as people read it."""
    bare = value.rstrip(b"\0")
    if bare and all(32 <= byte < 127 for byte in bare):
        return bare.decode("ascii")
    return "0x" + value.hex()


def info(opened):
    block = opened.super
    fields = {name: getattr(block, name) for name, _, _ in super_block.FIELDS if name != "reserved"}
    fields["signature"] = block.signature.decode("ascii")
    fields["bstype"] = block.bstype.rstrip(b"\0").decode("latin-1")
    fields["super_blob"] = None if block.super_blob == NONE_BLOB else f"{block.super_blob:#x}"
    owned = {cluster for blob in opened.blobs.values() for cluster in blob.clusters.values()}
    result = {"super_block": fields, "clean": opened.clean, "blobs": len(opened.blobs),
              "total_clusters": block.total_clusters, "metadata_clusters": block.md_clusters,
              "data_clusters": block.total_clusters - block.md_clusters,
              "free_clusters": block.total_clusters - block.md_clusters - len(owned)}
    if opened.is_lvolstore and block.super_blob in opened.blobs:
        one = opened.blobs[block.super_blob]
        result["lvstore"] = {"name": one.name, "uuid": one.uuid}
    return result


def summary(opened, one):
    return {"id": f"{one.id:#x}", "name": one.name or None, "uuid": one.uuid or None,
            "clusters": one.num_clusters, "allocated": len(one.clusters),
            "bytes": one.num_clusters * opened.super.cluster_size, "thin": one.thin,
            "read_only": one.read_only, "parent": f"{one.parent:#x}" if one.parent else None,
            "clones": [f"{child.id:#x}" for child in opened.children(one)],
            "external": bool(one.flags[0] & EXTERNAL), "opens": one.opens}


def dump(opened, one):
    devices = [{"first": first, "count": last - first + 1, "device_cluster": one.clusters[first]}
               for first, last in device_runs(one.clusters)]
    return summary(opened, one) | {
        "flags": {"invalid": one.flags[0], "data_ro": one.flags[1], "md_ro": one.flags[2]},
        "clear_method": CLEAR_METHODS[one.flags[2] & 3],
        "chain": [page.index for page in one.pages],
        "descriptors": [[DESCRIPTORS[item.type] if item.type < len(DESCRIPTORS) else item.type,
                         item.at, len(item.body)]
                        for page in one.pages for item in page.descriptors],
        "xattrs": {text_of(name): text_of(value) for name, value in one.xattrs.items()},
        "internal_xattrs": {text_of(name): text_of(value) for name, value in one.internal.items()},
        "extents": DESCRIPTORS[one.mode] if one.mode else None,
        "extent_pages": {str(number): index for number, index in one.extent_pages.items()},
        "cluster_runs": devices,
        "problems": [found.text for found in one.findings]}


def device_runs(clusters):
    """Runs of clusters that are consecutive in the blob and on the device."""
    by_shift = {}
    for logical, cluster in clusters.items():
        by_shift.setdefault(cluster - logical, []).append(logical)
    return sorted(run for logicals in by_shift.values() for run in runs(logicals))


class externals:
    """The images of external snapshots: by their ids, or one for all."""

    def __init__(self, arguments, files):
        self.paths = {item.rpartition("=")[0]: item.rpartition("=")[2] for item in arguments}
        self.files, self.opened = files, {}

    def __call__(self, value):
        path = self.paths.get(text_of(value), self.paths.get(""))
        if path is None:
            raise unusable(f"external snapshot {text_of(value)}: --esnap names no file for it")
        if path not in self.opened:
            self.opened[path] = self.files.enter_context(image(path))
        return self.opened[path]


def show(value, indent=""):
    for key, item in value.items():
        if isinstance(item, dict):
            print(f"{indent}{key}:")
            show(item, indent + "  ")
        else:
            print(f"{indent}{key}: {item}")


def show_list(blobs):
    for one in blobs:
        kinds = [word for word, holds in (
            ("thin", one["thin"]), ("read-only", one["read_only"]),
            ("external", one["external"]), (f"clone of {one['parent']}", one["parent"]),
            (f"{len(one['clones'])} clones", one["clones"]), ("DOES NOT OPEN", not one["opens"]))
            if holds]
        print(f"{one['id']}  {one['allocated']}/{one['clusters']} clusters  {one['name'] or '-'}  "
              f"{one['uuid'] or '-'}  {', '.join(kinds)}")


def run_check(given, path):
    status, findings = check(path)
    if given.strict and any(found["level"] == "warning" for found in findings):
        status = max(status, 1)
    if given.json:
        print(json.dumps({"image": path, "status": status, "findings": findings}))
        return status
    for found in findings:
        at = "" if found["offset"] is None else f" [{found['offset']:#x}]"
        print(f"{found['level']}: {found['where']}: {found['text']}{at} ({found['code']})")
    print(f"{path}: {['clean', 'inconsistent', 'unusable'][status]}")
    return status


def run_read(given, opened, one, files):
    total = hashlib.sha256()
    for part in opened.data(one, externals(given.esnap, files)):
        total.update(part)
        if not given.sha256:
            sys.stdout.buffer.write(part)
    if given.sha256:
        print(total.hexdigest())


def run(given, files):
    if given.command == "check":
        return max(run_check(given, path) for path in [given.image, *given.more])
    opened = store(files.enter_context(image(given.image)))
    if given.command == "list":
        blobs = [summary(opened, one) for one in opened.blobs.values()]
        if given.json:
            print(json.dumps(blobs))
        else:
            show_list(blobs)
        return 0
    if given.command == "info":
        result = info(opened)
    else:
        one = opened.find(given.more[0] if given.more else "")
        if one is None:
            raise unusable(f"no blob, or more than one, is called {given.more}")
        if given.command == "read":
            run_read(given, opened, one, files)
            return 0
        result = dump(opened, one)
    if given.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0


def main(arguments):
    parser = argparse.ArgumentParser(description="Reads and checks images of blobstores.")
    parser.add_argument("command", choices=["check", "info", "list", "dump", "read"])
    parser.add_argument("image")
    parser.add_argument("more", nargs="*", help="the blob: an id, a UUID or a name; or more images")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--strict", action="store_true", help="warnings count, too")
    parser.add_argument("--sha256", action="store_true", help="the sum instead of the data")
    parser.add_argument("--esnap", action="append", default=[], metavar="[ID=]FILE")
    try:
        with contextlib.ExitStack() as files:
            return run(parser.parse_args(arguments), files)
    except unusable as problem:
        print(f"spdk_blobstore: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
