#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what parameters' rows claim against the code: tests/check_params.py POSTCONF

A parameter that `postconf --status` calls effective is used: the member that its row binds is read somewhere, or, where the row
has none, some other code names it. One that is built in differently says how.
"""
import collections
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ["lib", "postconf", "maps", "master", "proxymap", "qmgr", "cleanup", "smtpd", "smtp", "local"]

source = {path: path.read_text() for folder in FOLDERS for path in (TOP / folder).rglob("*.[ch]")}
code = {path: re.sub(r"/\*.*?\*/", " ", text, flags=re.S) for path, text in source.items()}
everything = "\n".join(code.values())


def rows():
    """(name, member or None) of each row, as the compiler sees it: folders have macros of their own for theirs."""
    for path, text in code.items():
        # a plug-in's rows are the options of its tables, and its headers are not in the usual place
        if path.suffix != ".c" or "PARAM_" not in text or path.name == "params_pending.c" or path.parent.name == "plugins":
            continue
        seen = subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-E", "-P", f"-I{TOP}", f"-I{TOP}/lib", path],
                              capture_output=True, text=True, check=True).stdout
        for row in re.split(r"\.name\s*=", seen)[1:]:
            name = re.match(r'\s*\(?\s*"([^"]+)"', row)
            member = re.search(r"\.offset\s*=\s*\(uint32_t\)\s*\(__builtin_offsetof\s*\(struct \w+,\s*([\w.\[\]]+)\)", row)
            if name and (member or ".offset" in row):
                yield name[1], member and member[1]


strings = re.findall(r'"[^"\n]*"', everything)
read_members = {m[1] for m in re.finditer(r"(?:\.|->)(\w+)\b(?!\s*=[^=])", everything)}
asked_for = {s for m in re.finditer(r"\b[a-z]\w*\((?=([^()]*))", everything) for s in re.findall(r'"(\w+)"', m[1])}
words_in_strings = collections.Counter(w for s in strings for w in re.findall(r"\w+", s))


def is_read(member):
    return member.split(".")[-1].split("[")[0] in read_members


def is_asked_for(name):
    """Some function is called with it; SERVICE_suffix goes by its suffix."""
    suffixes = [name[2:]] if name.startswith("*_") else [name] + re.findall(r"^(?:local|lmtp|relay|smtp|virtual)_(\w+)$", name)
    return any(suffix in asked_for for suffix in suffixes)


def is_referred_to(name):
    """Another parameter's default, or the code that expands values, has it."""
    return words_in_strings[name] > 1


status = subprocess.run([sys.argv[1], "-c", TOP / "tools/demo", "--status"], capture_output=True, text=True, check=True).stdout
kinds = {line[19:]: line[:18].strip() for line in status.splitlines()[:-1]}
members = {}
for name, member in rows():
    if member:
        members.setdefault(name, []).append(member)
bad = []
for name, kind in kinds.items():
    if kind != "effective" or is_asked_for(name):
        continue
    if name not in members and not is_referred_to(name):
        bad.append(f"{name}: effective, but no code names it")
    elif name in members and not all(is_read(member) for member in members[name]):
        bad.append(f"{name}: effective, but nothing reads {' or '.join(members[name])}")
print("\n".join(bad))
print(f"{sum(k == 'effective' for k in kinds.values())} effective parameters, {len(bad)} of them without use")
sys.exit(bool(bad) or len(kinds) < 900)
