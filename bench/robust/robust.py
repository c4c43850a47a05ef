"""What dram leaves behind: kills, crowds, full disks, power cuts, few files.

    robust.py --dram PROGRAM [--rounds 200] [--seconds 300] [--seed N] [GROUP]…

Prints a table in Markdown; ends with 1 when something was wrong. Needs root, docker-registry, skopeo.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import crowd
import disks
import kills
import limits
from bed import Bed, Fault


def groups(bed, asked):
    """The trials: a name and what to run, which returns what is to be told."""
    found = {}
    for kind in kills.KILLS:

        def killed(kind=kind):
            trial = kind(bed)
            on_its_way, whole = trial.trial(asked.rounds)
            return f"{asked.rounds} kills within {whole:.1f} s, {on_its_way} before the end of the command"

        found[f"kill -9 of {kind.name}"] = killed

    def crowded():
        done, slowest = crowd.crowd(bed, asked.seconds)
        told = ", ".join(f"{count} {work}" for work, count in done.items())
        return f"8 processes, {asked.seconds} s: {told}; the slowest {slowest:.1f} s"

    found["crowd"] = crowded
    found["full disk"] = lambda: f"4 commands, {asked.rounds // 10 + 1} sizes each; the disk was full {disks.full(bed, asked.rounds // 10 + 1)} times"
    found["read-only store"] = lambda: disks.read_only(bed) or "reading works, writing fails with an error that says why"
    found["power cut"] = lambda: f"{asked.rounds} cuts, {disks.power_cut(bed, asked.rounds)} in the middle of a command"
    found["few files"] = lambda: "works: " + ", ".join(limits.few_files(bed))

    def memory_of_transfers():
        pulled, pushed = limits.memory(bed, asked.mebibytes)
        return f"image of {asked.mebibytes} MiB: pull {pulled} MiB, push {pushed} MiB at most"

    found["memory"] = memory_of_transfers
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dram", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--mebibytes", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("groups", nargs="*", help="parts of the names of groups; all when there are none")
    asked = parser.parse_args()
    random.seed(asked.seed)
    print(f"seed {asked.seed}\n\n| what | how often | took |\n|---|---|---|", flush=True)
    wrong = []
    with tempfile.TemporaryDirectory(prefix="dram-robust-") as place:
        Path(place).chmod(0o755)
        bed = Bed(asked.dram.resolve(), Path(place))
        try:
            for name, trial in groups(bed, asked).items():
                if asked.groups and not any(part in name for part in asked.groups):
                    continue
                began = time.monotonic()
                try:
                    told = trial()
                except Fault as fault:
                    wrong.append(name)
                    told = f"WRONG: {fault}"
                print(f"| {name} | {told} | {time.monotonic() - began:.0f} s |", flush=True)
        finally:
            bed.close()
    sys.exit(f"wrong: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
