"""Times dram and buildah at the same builds, in turns, and prints a table.

Only Python's standard library. Called by run.sh, which builds dram and makes
the base images. Everything it makes is below one temporary directory.
"""

import argparse
import copy
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


class Builder:
    """A program that builds Dockerfiles, with a store of its own."""

    def __init__(self, name, command, environment, log):
        self.name = name
        self.command = command
        self.environment = {**os.environ, **environment}
        self.log = log

    def build(self, context, tag, options=()):
        """Builds once; returns wall-clock and CPU seconds (children included)."""
        return self.measure([*self.command, *options, "-t", tag, str(context)])

    def measure(self, command):
        with open(self.log, "ab") as log:
            log.write(("\n$ " + " ".join(command) + "\n").encode())
            log.flush()
            began = time.monotonic()
            child = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.monotonic() - began
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            tail = Path(self.log).read_text(errors="replace").splitlines()[-20:]
            sys.exit(f"{' '.join(command)} failed:\n" + "\n".join(tail))
        return wall, usage.ru_utime + usage.ru_stime


class Dram(Builder):
    def __init__(self, program, place, name="dram"):
        super().__init__(
            name,
            [program, "build", "--network", "host", "--progress", "plain"],
            {"DRAM_STORE": str(place / name)},
            place / f"{name}.log",
        )
        self.program = program

    def version(self):
        return text([self.program, "--version"], self.environment)

    def import_base(self, tarball, name):
        self.measure([self.program, "import", str(tarball), name])

    def prepare_start(self, image):
        """Returns the command that starts a container of the image, which ends at once."""
        return [self.program, "run", "--network", "host", image, "true"]


class Buildah(Builder):
    def __init__(self, place):
        storage = place / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/buildah"\n'
            f'runroot = "{place}/buildah-run"\n'
        )
        super().__init__(
            "buildah",
            ["buildah", "bud", "--layers", "--isolation", "chroot", "--network", "host"],
            {"CONTAINERS_STORAGE_CONF": str(storage), "BUILDAH_ISOLATION": "chroot"},
            place / "buildah.log",
        )

    def with_jobs(self, jobs):
        """The same store, but up to `jobs` stages at once."""
        other = copy.copy(self)
        other.name = f"buildah --jobs {jobs}"
        other.command = [*self.command, "--jobs", str(jobs)]
        return other

    def version(self):
        return text(["buildah", "--version"], self.environment)

    def import_base(self, tarball, name):
        container = text(["buildah", "from", "scratch"], self.environment)
        self.measure(["buildah", "add", "--quiet", container, str(tarball), "/"])
        self.measure(["buildah", "commit", "--quiet", container, name])
        self.measure(["buildah", "rm", container])

    def prepare_start(self, image):
        """Returns the command that starts the working container of the image, which is made here."""
        container = text(["buildah", "from", image], self.environment)
        return ["buildah", "run", "--isolation", "chroot", container, "true"]


def text(command, environment=None):
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


# --- what is measured ---------------------------------------------------------
# Each measure prepares a context per builder and returns a function that does
# one run; what must not be timed happens before it returns.


def demo_context(place, builder):
    context = place / f"demo-of-{builder.name}"
    if not context.exists():
        shutil.copytree(ROOT / "examples" / "demo", context)
        builder.build(context, "bench-demo")
    return context


def no_op(place, builder):
    context = demo_context(place, builder)
    builder.build(context, "bench-demo")
    return lambda run: builder.build(context, "bench-demo")


def one_edit(place, builder):
    context = demo_context(place, builder)
    source = context / "lib" / "demo" / "router.ex"
    original = source.read_text()
    start = time.time_ns()

    def run(number):
        edited = original.replace("Hello from", f"Hello {start}.{number} from")
        assert edited != original
        source.write_text(edited)
        return builder.build(context, "bench-demo")

    return run


def generated(place, builder, name, dockerfile):
    context = place / f"{name}-of-{builder.name}"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    return lambda run: builder.build(context, f"bench-{name}", ["--no-cache"])


def twenty_steps(place, builder):
    return generated(place, builder, "steps", "FROM bench-base\n" + "RUN true\n" * 20)


def hundred_steps(place, builder):
    return generated(place, builder, "many-steps", "FROM bench-base\n" + "RUN true\n" * 100)


def twenty_starts(place, builder):
    command = builder.prepare_start("bench-base")

    def run(number):
        timings = [builder.measure(command) for _ in range(20)]
        return tuple(map(sum, zip(*timings)))

    return run


THREE_STAGES = (
    "".join(
        f"FROM bench-base AS {name}\nRUN sleep 2 && echo {name} > /{name}\n" for name in "abc"
    )
    + "FROM bench-base\n"
    + "".join(f"COPY --from={name} /{name} /{name}\n" for name in "abc")
)


def three_stages(place, builder):
    return generated(place, builder, "stages", THREE_STAGES)


MEASURES = {
    "no-op": ("build of the demo, nothing changed", no_op),
    "one-edit": ("build of the demo, one source file changed", one_edit),
    "twenty-steps": ("20 × RUN true, nothing cached", twenty_steps),
    "three-stages": ("3 independent stages of 2 s each", three_stages),
    "hundred-steps": ("100 × RUN true, nothing cached", hundred_steps),
    "twenty-starts": ("20 × a container that ends at once", twenty_starts),
}


# --- running and telling ----------------------------------------------------------


def take(measure, builders, runs, place):
    """Runs in turns, so that a busy moment of the machine meets both."""
    ready = [(builder, measure(place, builder)) for builder in builders]
    results = {builder.name: [] for builder in builders}
    for number in range(runs):
        for builder, run in ready:
            results[builder.name].append(run(number))
    return results


def median(pairs, index):
    return statistics.median(pair[index] for pair in pairs)


def spread(pairs):
    walls = [wall for wall, _ in pairs]
    return f"{min(walls):.2f} to {max(walls):.2f}"


def rows(title, results):
    """One row per builder; all but the first end in how many times as long they took."""
    dram = [median(results["dram"], index) for index in (0, 1)]
    for name, pairs in results.items():
        wall, cpu = median(pairs, 0), median(pairs, 1)
        ratios = (wall / max(dram[0], 1e-3), cpu / max(dram[1], 1e-3))
        yield (title, name, wall, spread(pairs), cpu, None if name == "dram" else ratios)
        title = ""


def tell(row):
    title, name, wall, between, cpu, ratios = row
    ratios = f"{ratios[0]:9.1f}× {ratios[1]:9.1f}×" if ratios else ""
    print(f"{title:43} {name:16} {wall:8.2f} {between:>16} {cpu:8.2f} {ratios}", flush=True)


def import_bases(builders, bases, place):
    busybox = place / "bench-base.tar"
    subprocess.run([ROOT / "tests" / "parity" / "base.sh", busybox], check=True)
    for builder in builders:
        builder.import_base(bases / "elixir-1.14.tar", "elixir:1.14")
        builder.import_base(bases / "demo-base.tar", "demo-base:bookworm")
        builder.import_base(busybox, "bench-base")


def remove(place):
    """Buildah leaves its store mounted; what is mounted cannot be removed."""
    below = [
        line.split()[1]
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[1].startswith(f"{place}/")
    ]
    for mount in sorted(below, reverse=True):
        subprocess.run(["umount", "-l", mount], check=False)
    shutil.rmtree(place, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dram", required=True, help="the dram to measure")
    parser.add_argument("--bases", required=True, type=Path, help="the base tarballs of the demo")
    parser.add_argument("--before", help="an older dram, to be measured beside it")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measure (5)")
    parser.add_argument("--json", type=Path, help="write every single timing to this file")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    options = parser.parse_args()
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")

    place = Path(tempfile.mkdtemp(prefix="dram-bench-"))
    everything = {}
    try:
        buildah = Buildah(place)
        older = [Dram(options.before, place, "dram before")] if options.before else []
        builders = [Dram(options.dram, place), *older, buildah]
        print("; ".join(builder.version() for builder in builders))
        print(
            f"{os.cpu_count()} CPUs, Linux {platform.release()}, "
            f"load {os.getloadavg()[0]:.1f}, {options.runs} runs each, in turns; medians"
        )
        import_bases(builders, options.bases, place)
        print(
            f"\n{'':43} {'':16} {'wall s':>8} {'between':>16} {'CPU s':>8} "
            f"{'wall':>10} {'CPU':>10}"
        )
        for name in options.measures or MEASURES:
            title, measure = MEASURES[name]
            more = [buildah.with_jobs(3)] if measure is three_stages else []
            results = take(measure, builders + more, options.runs, place)
            everything[name] = results
            for row in rows(title, results):
                tell(row)
        print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    finally:
        remove(place)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
