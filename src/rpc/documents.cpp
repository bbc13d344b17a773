// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/documents.hpp"

#include <fmt/format.h>

#include "request_options.hpp"

namespace nacre::rpc {
namespace {

std::string text_of(const json::value& from, const char* key) {
    return std::string(from[key].as_string().value_or(""));
}

/// "uint32", "string", "one of read, write".
std::string type_of(const json::value& parameter) {
    const json::array* choices = parameter["choices"].if_array();
    if (choices == nullptr) return text_of(parameter, "type");
    std::string names;
    for (const json::value& each : *choices)
        names.append(names.empty() ? "" : ", ").append(*each.as_string());
    const bool several = text_of(parameter, "type").starts_with("array");
    return (several ? "array of " : "one of ") + names;
}

std::string parameter_entry(const json::value& p) {
    std::string entry =
        fmt::format(".TP\n.B {}\n{}", roff(text_of(p, "name")), roff(text_of(p, "description")));
    entry += roff(" (" + type_of(p));
    if (p["required"] == json::value(true)) entry += ", required";
    if (const json::value* is = p.find("default"); is != nullptr && *is != json::value(""))
        entry += roff("; " + is->dump() + " if absent");
    return entry + ")\n";
}

std::string method_entry(const json::value& m) {
    std::string entry =
        fmt::format(".SS {}\n{}.\n", roff(text_of(m, "method")), roff(text_of(m, "description")));
    if (text_of(m, "state") == "startup") entry += "Before framework_start_init only.\n";
    const json::array* parameters = m["parameters"].if_array();
    if (parameters == nullptr || parameters->empty()) return entry + "Takes no parameters.\n";
    for (const json::value& p : *parameters) entry += parameter_entry(p);
    return entry;
}

constexpr std::string_view manual_head = R"(.SH NAME
nacre-rpc \- JSON-RPC methods of nacre
.SH SYNOPSIS
.B nacre rpc
.RI [ OPTIONS ]
.I METHOD
.RI [ name = value \&...\&| JSON ]
.SH DESCRIPTION
The methods that
.B nacre serve
answers on its socket, with the names, parameters, defaults and codes of SPDK where SPDK has them,
so that SPDK's rpc.py drives it too. Sizes on a command line may have units (4KiB), and elements of
arrays are separated by commas.
.SS Parameters of every method
)";

constexpr std::string_view plugin_head = R"py(# SPDX-License-Identifier: BSD-3-Clause
#
# Generated from the table of RPC methods: do not edit.
#
# For SPDK's rpc.py. With this file in a folder of $PYTHONPATH, as NAME.py:
#
#   rpc.py -s SOCKET --plugin NAME METHOD ARGUMENTS...
#
# Required parameters can be given by position, in their order, or as --name. Elements of arrays are
# separated by commas; objects, and arrays of them, are JSON.

import argparse
import json

true, false, null = True, False, None
)py";

constexpr std::string_view plugin_body = R"py(

def _integer(kind):
    bits = int("".join(c for c in kind if c.isdigit()))
    low, high = (0, 2 ** bits - 1) if kind[0] == "u" else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)

    def read(text):
        try:
            number = int(text, 0)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not an integer") from None
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{number} is not between {low} and {high}")
        return number
    return read


def _boolean(text):
    if text.lower() not in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() in ("true", "yes", "on", "1")


def _number(text):
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None


def _json(text):
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None


def _any(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def _choice(choices):
    def read(text):
        if text not in choices:
            raise argparse.ArgumentTypeError(f"'{text}' is not one of {', '.join(choices)}")
        return text
    return read


def _reader(kind, choices):
    """What makes a text the value that the method takes."""
    if kind.startswith("array of "):
        element = _reader(kind[len("array of "):], choices)
        if element is _json:
            return _json
        return lambda text: ([] if not text else _json(text) if text.startswith("[")
                             else [element(part) for part in text.split(",")])
    if kind.startswith(("uint", "int")):
        return _integer(kind)
    if choices:
        return _choice(choices)
    return {"boolean": _boolean, "number": _number, "object": _json, "any": _any}.get(kind, str)


def _describe(parameter):
    text = parameter["description"]
    if parameter.get("choices"):
        text += ": " + ", ".join(parameter["choices"])
    if parameter["required"]:
        text += " (required)"
    elif parameter.get("default") not in (None, "", []):
        text += f" (default: {json.dumps(parameter['default'])})"
    return text.replace("%", "%%")


def _add(subparsers, method):
    parser = subparsers.add_parser(method["method"], help=method["description"].replace("%", "%%"),
                                   description=method["description"])
    by_position = [p for p in method["parameters"] if p["required"]]
    letters = {"h"}
    for parameter in method["parameters"]:
        flags = ["--" + parameter["name"].replace("_", "-")]
        if parameter["name"][0] not in letters:
            letters.add(parameter["name"][0])
            flags.insert(0, "-" + parameter["name"][0])
        how = {"type": _reader(parameter["type"], parameter.get("choices")),
               "metavar": parameter["name"].upper()}
        if parameter["type"] == "boolean":
            how = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(*flags, dest="parameter_" + parameter["name"], default=None,
                            help=_describe(parameter), **how)
    if method.get("creates"):
        parser.add_argument("--idempotent", action="store_true",
                            help="succeed if it exists with the same configuration")
    if by_position:
        parser.add_argument("values", nargs="*", metavar=" ".join(
            p["name"].upper() for p in by_position), help="those that are required, in this order")

    def call(args):
        params = {}
        for parameter in method["parameters"]:
            value = getattr(args, "parameter_" + parameter["name"])
            if value is not None:
                params[parameter["name"]] = value
        missing = [p for p in by_position if p["name"] not in params]
        values = getattr(args, "values", [])
        if len(values) > len(missing):
            parser.error(f"unexpected: {' '.join(values[len(missing):])}")
        for parameter, text in zip(missing, values):
            try:
                params[parameter["name"]] = _reader(parameter["type"],
                                                    parameter.get("choices"))(text)
            except argparse.ArgumentTypeError as error:
                parser.error(f"argument {parameter['name'].upper()}: {error}")
        if len(values) < len(missing):
            parser.error("required: " + ", ".join(p["name"] for p in missing[len(values):]))
        if getattr(args, "idempotent", False):
            params["idempotent"] = True
        answer = args.client.call(method["method"], params)
        if isinstance(answer, str):
            print(answer)
        elif answer is not None and answer is not True:
            print(json.dumps(answer, indent=2))

    parser.set_defaults(func=call)


def spdk_rpc_plugin_initialize(subparsers):
    for method in METHODS:
        if method["method"] not in subparsers.choices:
            _add(subparsers, method)
)py";

}  // namespace

std::string roff(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const auto lead = static_cast<unsigned char>(c);
        if (lead >= 0xc0) {
            // A sequence of UTF-8, which all of nacre's texts are: groff wants its number.
            const std::size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
            std::uint32_t point = lead & (0x3fU >> more);
            for (std::size_t k = 0; k < more && i + 1 < text.size(); ++k)
                point = point << 6 | (static_cast<unsigned char>(text[++i]) & 0x3fU);
            out += fmt::format("\\[u{:04X}]", point);
        } else if (c == '\\')
            out += "\\e";
        else if (c == '-')
            out += "\\-";
        else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n'))
            out.append("\\&").push_back(c);
        else
            out.push_back(c);
    }
    return out;
}

json::array schemas(const method_table& methods, std::string_view filter) {
    json::array list;
    for (const method* m : methods.all())
        if (std::string_view(m->name).find(filter) != std::string_view::npos)
            list.push_back(schema(*m));
    return list;
}

std::string manual_page(const json::array& schemas, std::string_view version) {
    std::string page = fmt::format(".TH NACRE\\-RPC 7 \"\" \"nacre {}\" \"nacre\"\n", version);
    page += manual_head;
    for (const json::value& p : json::schema<request_options>()) page += parameter_entry(p);
    page += ".SH METHODS\n";
    for (const json::value& m : schemas) page += method_entry(m);
    return page + ".SH SEE ALSO\n.BR nacre (1)\n";
}

std::string rpc_py_plugin(const json::array& schemas, std::string_view program) {
    // A JSON value is a Python expression but for true, false and null, which the head defines.
    return fmt::format("# RPC methods of {}.\n{}\nMETHODS = {}\n{}", program, plugin_head,
                       json::value(schemas).dump_pretty(4), plugin_body);
}

}  // namespace nacre::rpc
