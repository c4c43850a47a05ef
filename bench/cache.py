"""Times the demo's two-stage build on a cold machine, without and with a cache that another machine left in a registry.

The registry is Debian's `docker-registry` on this machine; the base images, the cache and the result are in it. Only
Python's standard library. Called by `bench/run.sh cache`. Everything it makes is below one temporary directory.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "robust"))
sys.dont_write_bytecode = True
from bed import Registry, text_of  # noqa: E402

DEMO = Path(__file__).resolve().parent.parent / "examples/demo"
BASES = {"elixir:1.14": "elixir-1.14.tar", "demo-base:bookworm": "demo-base.tar"}


def run(program, store, *words):
    """What it says, wall-clock seconds, CPU seconds (children included)."""
    environment = {**os.environ, "DRAM_STORE": str(store)}
    with tempfile.TemporaryFile("w+") as log:
        began = time.monotonic()
        child = subprocess.Popen(
            [str(word) for word in (program, *words)], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        text = log.read()
    if child.returncode != 0:
        sys.exit(f"{words} failed:\n{text}")
    return text, wall, usage.ru_utime + usage.ru_stime


def size(directory):
    """MiB of all files below it, as they lie on the disk."""
    return int(subprocess.run(["du", "-sk", directory], check=True, capture_output=True, text=True).stdout.split()[0]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dram", required=True, help="the dram to measure")
    parser.add_argument("--bases", required=True, type=Path, help="the directory with the base tarballs")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measure (5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dram-bench-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        registry = Registry(place / "registry")
        try:
            measured(options, place, registry.host)
        finally:
            registry.close()


def measured(options, place, host):
    """Fills the registry, builds in turns, and prints the table."""
    context = place / "demo"
    shutil.copytree(DEMO, context)
    text = (context / "Dockerfile").read_text()
    for image, tar in BASES.items():
        text = text.replace(f"FROM {image}", f"FROM {host}/{image}")
        run(options.dram, place / "first", "import", options.bases / tar, f"{host}/{image}")
        run(options.dram, place / "first", "push", f"{host}/{image}")
    (context / "Dockerfile").write_text(text)
    build = ["build", "--progress", "plain", "-t", f"{host}/demo:1", "--push"]
    cache = f"type=registry,ref={host}/cache:demo,mode=max"
    ways = {
        "no cache": [],
        "no cache, and one is written": ["--cache-to", cache],
        "with that cache": ["--cache-from", f"{host}/cache:demo"],
    }
    results = {way: [] for way in ways}
    for _ in range(options.runs):
        for way, words in ways.items():
            store = place / "cold"
            said, wall, cpu = run(options.dram, store, *build, *words, context)
            steps = next(line for line in said.splitlines() if " executed, " in line).rsplit("; ", 1)[1]
            results[way].append((wall, cpu, size(store), steps.split(",")[0]))
            shutil.rmtree(store)
    print(
        f"{text_of(options.dram, '--version')}; {os.cpu_count()} CPUs, Linux {platform.release()}, load "
        f"{os.getloadavg()[0]:.1f}; {options.runs} runs each, in turns; medians\n"
    )
    print(f"{'a cold machine builds and pushes':34} {'wall s':>8} {'CPU s':>8} {'store MiB':>10}")
    for way, runs in results.items():
        wall, cpu, mebibytes = (statistics.median(one[index] for one in runs) for index in range(3))
        print(f"{way:34} {wall:8.2f} {cpu:8.2f} {mebibytes:10.0f}  {runs[-1][3]}")


if __name__ == "__main__":
    main()
