#!/usr/bin/env python3
"""Prints how plain the names of a checkout are, as the table of docs/decisions/words.md.

    scripts/words.py [CHECKOUT]

Reads the Rust files that git tracks. A type is a `struct`, `enum`, `trait`, `union` or a `type` outside of an `impl`; a
word of a name begins at a capital, or after an underscore.
"""
import collections
import pathlib
import re
import subprocess
import sys

TYPE = re.compile(r"^( *)(?:pub(?:\([^)]*\))? )?(?:unsafe )?(struct|enum|trait|union|type) ([A-Z]\w*)", re.M)
FUNCTION = re.compile(r"^ *(?:pub(?:\([^)]*\))? )?(?:const |unsafe |extern \"C\" )*fn (\w+)", re.M)
# The first line of a doc comment: no line of the same comment is above it.
DOC = re.compile(r"^(?! *//[/!])[^\n]*\n *//[/!] (\S+)|\A//! (\S+)", re.M)
WH_WORDS = {"what", "who", "whose", "whom", "where", "whether", "why", "how", "which", "when"}
TEST = re.compile(r"^ *#\[test\]", re.M)
# A name in capitals counts as one word; in camel case every capital that a small letter or digit follows begins one.
CAMEL_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+")


def percent(part, whole):
    """Returns a share as text."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def crate_of(path):
    """Returns the crate of a file, or None for files outside of crates."""
    parts = path.split("/")
    if parts[0] != "crates":
        return None
    return "dram-start" if parts[1] == "dram-start" else parts[1]


def code_of(text):
    """Returns the text of a source file without its unit tests, which stand last in a file."""
    return re.split(r"^#\[cfg\(test\)\]\n(?:#\[[^\n]*\]\n)*mod \w+ \{", text, maxsplit=1, flags=re.M)[0]


def main():
    """Reads the checkout and prints its figures."""
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "crates/*.rs"], check=True, capture_output=True, text=True
    )
    types, functions, docs = [], [], []
    tests, lines = collections.Counter(), collections.Counter()
    for path in listed.stdout.split():
        text = (root / path).read_text()
        crate = crate_of(path)
        tests[crate] += len(TEST.findall(text))
        is_source = "/src/" in path and not path.endswith("/tests.rs")
        if is_source:
            lines[crate] += code_of(text).count("\n")
        types += [name for indent, kind, name in TYPE.findall(text) if kind != "type" or not indent]
        # The names of tests are sentences and say nothing about the code.
        functions += FUNCTION.findall(code_of(text)) if is_source else []
        docs += ["".join(word) for word in DOC.findall(text)]
    names = collections.Counter(types)
    shared = sum(count for count in names.values() if count > 1)
    one_word = sum(len(CAMEL_WORD.findall(name)) == 1 for name in types)
    one_word_functions = sum("_" not in name.strip("_") for name in functions)
    wh = sum(word.lower().strip(",.'`*") in WH_WORDS for word in docs)
    rows = [
        ("type names of one word", percent(one_word, len(types)), len(types)),
        ("type definitions that share their name", percent(shared, len(types)), len(types)),
        ("function names of one word", percent(one_word_functions, len(functions)), len(functions)),
        ("doc comments that begin with a wh-word", percent(wh, len(docs)), len(docs)),
    ]
    print("| figure | share | of |\n|---|--:|--:|")
    for row in rows:
        print("| {} | {} | {} |".format(*row))
    print("\n| crate | tests | source lines | tests per 1,000 lines |\n|---|--:|--:|--:|")
    for crate in sorted(lines):
        print(f"| `{crate}` | {tests[crate]} | {lines[crate]} | {1000 * tests[crate] / lines[crate]:.1f} |")


if __name__ == "__main__":
    main()
