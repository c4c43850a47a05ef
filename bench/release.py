"""Times `dram release` and `mix release` at the same compiled project, in turns.

Only Python's standard library. Called by run.sh with the measure `release`.
Everything it makes is below one temporary directory.

    release.py --dram PROGRAM [--runs N] [--json FILE]
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Project, and where its `mix release` leaves release and archive.
PROJECTS = {
    "small": ("tests/release/small", "small", "0.1.0"),
    "demo": ("examples/demo", "demo", "0.1.0"),
    "umbrella": ("tests/release/umbrella", "shop", "1.2.0"),
}


def measure(command, directory, environment):
    """Runs it; returns wall-clock and CPU seconds (children included)."""
    began = time.monotonic()
    child = subprocess.Popen(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{output.decode(errors='replace')}")
    return wall, usage.ru_utime + usage.ru_stime


def add_archive(project, name):
    """Gives the project's release the steps of one with an archive."""
    path = project / "mix.exs"
    text = path.read_text()
    if ":tar" in text:
        return
    steps = "steps: [:assemble, :tar]"
    if "releases:" in text:
        text = text.replace(f"{name}: [applications:", f"{name}: [{steps}, applications:")
    else:
        text = text.replace("version:", f"releases: [{name}: [{steps}]], version:", 1)
    path.write_text(text)
    if steps not in path.read_text():
        sys.exit(f"{path}: the release has no steps to change")


def size(path):
    """Bytes of the files below a directory."""
    found = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in found)


def forget(memory, names):
    for name in names:
        for path in memory.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def one_project(title, dram, runs, rest, place):
    source, name, version = PROJECTS[title]
    project = place / title
    shutil.copytree(ROOT / source, project, ignore=shutil.ignore_patterns("_build"))
    add_archive(project, name)
    environment = {**os.environ, "MIX_ENV": "prod", "LANG": "C.UTF-8"}
    ours = place / "ours" / name
    build = project / "_build" / "prod"
    memory = build / "dram"

    def mix():
        return measure(["mix", "release", name, "--overwrite", "--quiet"], project, environment)

    def release():
        command = [dram, "release", "--quiet", "--name", name, "--output", ours, project]
        return measure(command, place, environment)

    mix()
    release()
    ways = {
        "mix release": (lambda: None, mix),
        "dram, again": (lambda: None, release),
        "dram, all files anew": (lambda: forget(memory, ["written-*", "pieces"]), release),
        "dram, nothing known": (lambda: shutil.rmtree(memory), release),
    }
    results = {way: [] for way in ways}
    for _ in range(runs):
        for way, (prepare, run) in ways.items():
            prepare()
            # ext4 goes around the numbers of files removed in the last five seconds, and whoever makes
            # files then pays for what others removed.
            time.sleep(rest)
            results[way].append(run())
            if way == "dram, nothing known":
                release()
    sizes = {
        "mix release": (size(build / "rel" / name), (build / f"{name}-{version}.tar.gz").stat().st_size),
        "dram": (size(ours), (ours.parent / f"{name}-{version}.tar.gz").stat().st_size),
    }
    shutil.rmtree(place / "ours")
    return results, sizes


def tell(title, results, sizes):
    mix = [statistics.median(pair[index] for pair in results["mix release"]) for index in (0, 1)]
    for way, pairs in results.items():
        wall, cpu = (statistics.median(pair[index] for pair in pairs) for index in (0, 1))
        walls = [pair[0] for pair in pairs]
        ratios = f"{mix[0] / wall:9.1f}× {mix[1] / cpu:9.1f}×" if way != "mix release" else ""
        between = f"{min(walls):.3f} to {max(walls):.3f}"
        print(f"{title:10} {way:22} {wall:8.3f} {between:>16} {cpu:8.3f} {ratios}", flush=True)
        title = ""
    for way, (tree, archive) in sizes.items():
        print(f"{'':10} {way:22} {tree / 1e6:8.2f} MB, archive {archive / 1e6:.2f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dram", required=True, help="the dram to measure")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way (3)")
    parser.add_argument("--rest", type=float, default=6, help="seconds between runs (6)")
    parser.add_argument("--json", type=Path, help="write every single timing to this file")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="dram-bench-"))
    everything = {}
    try:
        print(
            f"{os.cpu_count()} CPUs, Linux {platform.release()}, "
            f"load {os.getloadavg()[0]:.1f}, {options.runs} runs each, in turns; medians"
        )
        print(f"\n{'':10} {'':22} {'wall s':>8} {'between':>16} {'CPU s':>8} {'wall':>10} {'CPU':>10}")
        for title in PROJECTS:
            results, sizes = one_project(title, options.dram, options.runs, options.rest, place)
            everything[title] = {"times": results, "sizes": sizes}
            tell(title, results, sizes)
        print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
