# SPDX-License-Identifier: BSD-3-Clause
#
# The table of RPC methods, SPDK's definition of the same, and what both have in common:
# docs/spdk-methods.tsv, a line for each method that nacre has, with its parameters (! is required)
# and whether SPDK's schema has it, too. It is written by `spdk_schema_test.py --update`, which
# refuses while anything differs from SPDK's schema, so that who changes a parameter compares again.

import json
import os
import re
import subprocess
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULT = os.path.join(TOP, "docs", "spdk-methods.tsv")
SAMPLES = os.path.join(TOP, "src", "rpc", "testdata", "spdk-samples.md")

# Parameters that SPDK's methods of these names do not have, and why nacre's do. Reviewed: whoever
# adds one says so here.
OURS = {
    "bdev_aio_create": {
        "size": "makes the file",
        "must_exist": "keeps a saved configuration from making it again",
        "preallocate": "allocates its space first",
    },
    "bdev_malloc_create": {
        "zone_size": "zoned", "zone_capacity": "zoned", "max_open_zones": "zoned",
        "max_active_zones": "zoned", "max_append_blocks": "zoned",
    },
    "bdev_passthru_create": {"watch_completions": "logs failed I/O"},
}
# Parameters whose defaults SPDK's text gives otherwise than by a value.
DEFAULTS = {("notify_get_notifications", "max"): 2 ** 64 - 1}
# Parameters whose types SPDK's schema gives otherwise than its handlers and its client have them.
TYPES = {("bdev_rbd_create", "config"): "object",
         ("bdev_rbd_register_cluster", "config_param"): "object"}


def our_methods():
    done = subprocess.run([os.environ["NACRE_BINARY"], "rpc", "--schema"], capture_output=True,
                          text=True, check=True, timeout=60)
    return {method["method"]: method for method in json.loads(done.stdout)}


def load_yaml(path):
    try:
        import yaml
    except ImportError:
        raise unittest.SkipTest("python3-yaml, which reads SPDK's schema, is not installed")
    with open(path, encoding="utf-8") as text:
        return yaml.safe_load(text)


class SpdkSchema:
    def __init__(self, path):
        loaded = load_yaml(path)
        self.methods = {method["name"]: method for method in loaded["methods"]}
        self.enums = {e["name"]: {field["name"] for field in e["fields"]}
                      for e in loaded["enums"]}
        self.arrays = {a["name"]: a for a in loaded["arrays"]}
        self.bitmasks = {b["name"]: self.enums[b["enum"]]
                         for b in loaded["bitmasks"]}
        self.objects = {o["name"]: o for o in loaded["objects"]}

    def type_of(self, parameter):
        """As nacre's schema names it, and the set of choices or None."""
        kind, name = parameter["type"], parameter.get("class")
        if kind == "enum":
            return "enum", self.enums[name]
        if kind == "bitmask":
            return "array of enum", self.bitmasks[name]
        if kind == "array":
            array = self.arrays[name]
            item = {"type": array["item_type"], "class": array.get("item_class")}
            inner, choices = self.type_of(item)
            return "array of " + inner, choices
        return kind, None

    def differences(self, name, ours):
        """Sentences, for one method and its parameters, or those of an object."""
        return list(self.compare(name, self.methods[name].get("params", []), ours["parameters"]))

    def compare(self, name, their_parameters, our_parameters):
        theirs = {p["name"]: p for p in their_parameters}
        ours = {p["name"]: p for p in our_parameters}
        for extra in ours.keys() - theirs.keys():
            if extra not in OURS.get(name, {}):
                yield f"{name}: SPDK has no parameter {extra}, and it is not among OURS"
        for extra in OURS.get(name, {}):
            if extra in theirs or extra not in ours:
                yield f"{name}: {extra} stands among OURS without need"
        for key, parameter in theirs.items():
            if key not in ours:
                yield f"{name}: lacks the parameter {key}"
                continue
            mine = ours[key]
            if bool(parameter.get("required")) != mine["required"]:
                yield f"{name}: {key} is required on one side only"
            kind, choices = self.type_of(parameter)
            kind = TYPES.get((name, key), kind)
            if kind != mine["type"]:
                yield f"{name}: {key} is of type {mine['type']}, SPDK's is {kind}"
            elif choices is not None and choices != set(mine.get("choices", [])):
                yield f"{name}: {key}: the choices differ: {choices ^ set(mine['choices'])}"
            if "class" in parameter and mine.get("members") is not None:
                fields = self.objects[parameter["class"]]["fields"]
                yield from self.compare(f"{name}.{key}", fields, mine["members"])
            given = default_in(name, parameter)
            if given is not None and "default" in mine and mine["default"] != given:
                yield f"{name}: {key} is {mine['default']} if absent, SPDK's is {given}"


def default_in(method, parameter):
    """The default that SPDK's text names, as "Default: 7", "default is false", "(default:0)"."""
    if (method, parameter["name"]) in DEFAULTS:
        return DEFAULTS[method, parameter["name"]]
    found = re.search(r"default(?:\s+is|\s*[:=])?\s*`?(-?\d+|true|false|[a-z_]+)",
                      parameter.get("description", ""), re.IGNORECASE)
    if not found:
        return None
    word = found.group(1)
    if parameter["type"] == "boolean":
        return {"true": True, "false": False}.get(word.lower())
    if parameter["type"] == "enum":
        return word
    return int(word) if re.fullmatch(r"-?\d+", word) else None


def signature(method):
    return " ".join(p["name"] + ("!" if p["required"] else "") + ":" + p["type"].replace(" ", "_")
                    for p in method["parameters"])


def result_text(ours, spdk_names):
    """The file, if SPDK has methods of these names."""
    shared = [name for name in ours if name in spdk_names]
    lines = [f"# RPC methods: {len(shared)} of SPDK's {len(spdk_names)}, {len(ours) - len(shared)} "
             "of nacre's own. Written by tests/spdk_schema_test.py --update."]
    lines += ["\t".join((name, "spdk" if name in spdk_names else "nacre",
                         signature(ours[name]))).rstrip() for name in sorted(ours)]
    return "\n".join(lines) + "\n"


def exchanges(path):
    """{(sent, received)} of a file of captured exchanges."""
    pairs, sent = [], None
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if line.startswith("> "):
                sent = line[2:]
                pairs.append((sent, ""))
            elif line.startswith("< ") and sent is not None:
                pairs[-1] = (sent, line[2:])
    return pairs
