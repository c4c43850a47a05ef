"""Times push and pull of dram, skopeo and podman at the same image, in turns, and prints a table.

The registry is Debian's `docker-registry` on this machine, a fresh one for every run. Only Python's standard library.
Called by `bench/run.sh moving`. Everything it makes is below one temporary directory.
"""

import argparse
import json
import os
import platform
import random
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


def make_context(place, layers, files, mebibytes):
    """A context whose layers hold text that packs to about half."""
    words = [os.urandom(6).hex() for _ in range(4000)]
    size = mebibytes * (1 << 20) // files
    for layer in range(layers):
        for number in range(files // layers):
            path = place / f"layer-{layer}" / f"dir-{number % 40}" / f"file-{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(" ".join(random.choices(words, k=size // 13)))
    copies = "".join(f"COPY layer-{layer} /data/layer-{layer}\n" for layer in range(layers))
    (place / "Dockerfile").write_text(f"FROM base\n{copies}")


class Tool:
    """A program with a store of its own."""

    def __init__(self, name, place, environment=None):
        self.name = name
        self.place = place / name
        self.place.mkdir()
        self.environment = {**os.environ, **(environment or {})}

    def run(self, *words):
        """Wall-clock seconds, CPU seconds (children included), MiB of memory at most."""
        with open(self.place / "log", "ab") as log:
            began = time.monotonic()
            child = subprocess.Popen(
                [str(word) for word in words], env=self.environment, cwd=self.place, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.monotonic() - began
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            tail = (self.place / "log").read_text(errors="replace").splitlines()[-20:]
            sys.exit(f"{words} failed:\n" + "\n".join(tail))
        return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Dram(Tool):
    def __init__(self, program, place):
        super().__init__("dram", place, {"DRAM_STORE": str(place / "dram/store")})
        self.program = program

    def version(self):
        return text_of(self.program, "--version")

    def make(self, context, base, archive):
        self.run(self.program, "import", base, "base")
        self.run(self.program, "build", "--progress", "plain", "-t", "big", context)
        self.run(self.program, "save", "-o", archive, "big")

    def take(self, archive):
        pass

    def push(self, there):
        self.run(self.program, "tag", "big", there)
        return self.run(self.program, "push", "--quiet", there)

    def pull(self, there):
        self.environment["DRAM_STORE"] = str(self.place / "fresh")
        took = self.run(self.program, "pull", "--quiet", there)
        shutil.rmtree(self.place / "fresh")
        return took

    def pull_and_unpack(self, there):
        self.environment["DRAM_STORE"] = str(self.place / "fresh")
        took = [self.run(self.program, "pull", "--quiet", there), self.run(self.program, "run", there, "true")]
        shutil.rmtree(self.place / "fresh")
        return took[0][0] + took[1][0], took[0][1] + took[1][1], max(took[0][2], took[1][2])


class Skopeo(Tool):
    def __init__(self, place):
        super().__init__("skopeo", place)

    def version(self):
        return text_of("skopeo", "--version")

    def take(self, archive):
        self.run("skopeo", "copy", f"oci-archive:{archive}", f"oci:{self.place}/layout:big")

    def push(self, there):
        return self.run(
            "skopeo", "copy", "--dest-tls-verify=false", f"oci:{self.place}/layout:big", f"docker://{there}"
        )

    def pull(self, there):
        took = self.run("skopeo", "copy", "--src-tls-verify=false", f"docker://{there}", f"oci:{self.place}/fresh:big")
        shutil.rmtree(self.place / "fresh")
        return took


class Podman(Tool):
    def __init__(self, place):
        storage = place / "podman.conf"
        storage.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/podman/root"\nrunroot = "{place}/podman/run"\n'
        )
        super().__init__("podman", place, {"CONTAINERS_STORAGE_CONF": str(storage)})

    def version(self):
        return text_of("podman", "--version")

    def take(self, archive):
        self.run("podman", "load", "--quiet", "-i", archive)

    def push(self, there):
        return self.run("podman", "push", "--quiet", "--tls-verify=false", "docker.io/library/big:latest", there)

    def pull_and_unpack(self, there):
        self.run("podman", "rmi", "--all", "--force")
        return self.run("podman", "pull", "--quiet", "--tls-verify=false", there)


WAYS = {
    "push": "push, the registry is empty",
    "pull": "pull, the store is empty",
    "pull_and_unpack": "pull and unpack, the store is empty",
}


def measured(way, tools, runs, place):
    results = {tool.name: [] for tool in tools if hasattr(tool, way)}
    for number in range(runs):
        for tool in tools:
            if not hasattr(tool, way):
                continue
            registry = Registry(place / "registry")
            there = f"{registry.host}/bench/big:1"
            try:
                if way != "push":
                    tools[1].push(there)
                results[tool.name].append(getattr(tool, way)(there))
            finally:
                registry.close()
                shutil.rmtree(place / "registry")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dram", required=True, help="the dram to measure")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measure (5)")
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--mebibytes", type=int, default=500)
    parser.add_argument("--json", type=Path, help="write every single timing to this file")
    options = parser.parse_args()
    everything = {}
    with tempfile.TemporaryDirectory(prefix="dram-bench-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        try:
            tools = [Dram(options.dram, place), Skopeo(place), Podman(place)]
            print("; ".join(tool.version() for tool in tools))
            context, base, archive = place / "context", place / "base.tar", place / "big.tar"
            context.mkdir()
            make_context(context, options.layers, options.files, options.mebibytes)
            subprocess.run([Path(__file__).parent.parent / "tests/parity/base.sh", base], check=True)
            tools[0].make(context, base, archive)
            shutil.rmtree(context)
            print(
                f"{os.cpu_count()} CPUs, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}; an image of "
                f"{options.files} files, {options.mebibytes} MiB, {options.layers} layers, packed "
                f"{archive.stat().st_size >> 20} MiB; {options.runs} runs each, in turns; medians\n"
            )
            for tool in tools:
                tool.take(archive)
            print(f"{'':38} {'':8} {'wall s':>8} {'between':>16} {'CPU s':>8} {'MiB':>8}")
            for way, title in WAYS.items():
                results = measured(way, tools, options.runs, place)
                everything[way] = results
                for name, runs in results.items():
                    wall, cpu, memory = (statistics.median(run[index] for run in runs) for index in range(3))
                    between = f"{min(run[0] for run in runs):.2f} to {max(run[0] for run in runs):.2f}"
                    print(f"{title:38} {name:8} {wall:8.2f} {between:>16} {cpu:8.2f} {memory:8.0f}", flush=True)
                    title = ""
        finally:
            for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
                if line.split()[1].startswith(f"{place}/"):
                    subprocess.run(["umount", "-l", line.split()[1]], check=False)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
