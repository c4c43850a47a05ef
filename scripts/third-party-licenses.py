#!/usr/bin/env python3
"""Writes THIRD-PARTY-LICENSES: the licences of everything that is linked into dram.

    scripts/third-party-licenses.py [--check]

With --check nothing is written; the exit code is 1 if the file is not current. The texts are those of the crates in
Cargo.lock, as cargo unpacked them; equal texts stand once.
"""
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "THIRD-PARTY-LICENSES"
TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
LICENSE_FILE = re.compile(r"^(UN)?LICEN[CS]E|^COPYING|^NOTICE", re.I)
# The licence that dram chooses, where a crate offers several and the names of its files do not say MIT.
CHOSEN = {"blake3": ["LICENSE_A2"], "constant_time_eq": ["LICENSE-MIT0"]}
# Other people's code inside of a crate, with the licence that dram chooses: zstd is also under the GPL.
INNER = {
    "libdeflate-sys": ["libdeflate/COPYING"],
    "ring": ["third_party/fiat/LICENSE"],
    "zstd-sys": ["zstd/LICENSE"],
}
HEAD = """Licences of the third-party code in dram
========================================

Made by scripts/third-party-licenses.py: run it after a change of Cargo.lock. Where a crate may be used under one of several
licences, the text is that of the chosen one. Rust's standard library (MIT OR Apache-2.0, https://github.com/rust-lang/rust)
and the GNU C library (LGPL-2.1-or-later, https://sourceware.org/glibc) are linked statically too; whoever builds dram from
its sources can link it with another version of either.

"""


def linked_packages():
    """Returns the packages of other people that are linked into dram, by name and version."""
    found = {}
    for target in TARGETS:
        command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        metadata = json.loads(output)
        packages = {package["id"]: package for package in metadata["packages"]}
        nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
        todo = [package["id"] for package in metadata["packages"] if package["name"] == "dram"]
        seen = set()
        while todo:
            identity = todo.pop()
            package = packages[identity]
            # A procedural macro works in the compiler; none of its code is linked.
            is_macro = any("proc-macro" in target["kind"] for target in package["targets"])
            if identity in seen or is_macro:
                continue
            seen.add(identity)
            if package["source"]:
                found[package["name"], package["version"]] = package
            normal = [part for part in nodes[identity]["deps"] if any(kind["kind"] is None for kind in part["dep_kinds"])]
            todo += [part["pkg"] for part in normal]
    return [package for _, package in sorted(found.items())]


def license_files(package):
    """Returns the paths of the licence texts that apply to a package."""
    directory = pathlib.Path(package["manifest_path"]).parent
    names = sorted(path.name for path in directory.iterdir() if LICENSE_FILE.match(path.name) and path.is_file())
    chosen = CHOSEN.get(package["name"])
    if chosen is None:
        mit = [name for name in names if re.search(r"MIT", name)]
        # What applies in addition to the chosen licence is not one of the two usual alternatives.
        chosen = mit + [name for name in names if re.search(r"UNICODE", name)] if mit else names
    paths = [directory / name for name in chosen + INNER.get(package["name"], [])]
    missing = [str(path) for path in paths if not path.is_file()]
    if not paths or missing:
        sys.exit(f"{package['name']} {package['version']} has no licence text: {missing}")
    return paths


def page():
    """Returns the text of the file."""
    texts = {}
    packages = linked_packages()
    for package in packages:
        for path in license_files(package):
            text = "\n".join(line.rstrip() for line in path.read_text(errors="replace").splitlines()).strip("\n")
            texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
    parts = [HEAD]
    parts += [f"{package['name']} {package['version']}: {package['license']}\n" for package in packages]
    for text, users in texts.items():
        names = ", ".join(dict.fromkeys(users))
        parts.append(f"\n{'-' * 80}\n{names}\n{'-' * 80}\n\n{text}\n")
    return "".join(parts)


def main():
    """Writes the file, or checks it."""
    text = page()
    if sys.argv[1:] == ["--check"]:
        if not FILE.exists() or FILE.read_text() != text:
            sys.exit("THIRD-PARTY-LICENSES is not current: run scripts/third-party-licenses.py")
    else:
        FILE.write_text(text)


if __name__ == "__main__":
    main()
