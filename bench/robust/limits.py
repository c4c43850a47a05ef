"""Few files, little memory."""

import os

from bed import Fault
from disks import commands, offer


def few_files(bed):
    """With so few open files each command works, or says what to raise; never a hang, never a half image."""
    offer(bed)
    worked = []
    for most in (12, 16, 24, 32, 64):
        for name, words in commands(bed, 0).items():
            store = bed.store(f"files-{most}-{name}")
            code, said = store.run(*words, before=("prlimit", f"--nofile={most}"))
            if code == 0:
                worked.append(f"{name}/{most}")
            elif "open files" not in said:
                raise Fault(f"`dram {name}` with {most} files says {said}")
            store.check(["base"])
            store.remove()
    return worked


def memory(bed, mebibytes):
    """The most memory, in MiB, of a pull and a push of an image of this size."""
    store = bed.store("memory")
    store.ok("load", bed.image(4, mebibytes * (1 << 20) // 4))
    there = f"{bed.registry.host}/memory/big:1"
    store.ok("tag", "big", there)
    pushed = peak(store, "push", there)
    store.ok("rm", "big")
    store.ok("rm", there)
    store.ok("prune", "--all")
    pulled = peak(store, "pull", there)
    store.remove()
    return pulled, pushed


def peak(store, *words):
    child = store.start(*words)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise Fault(f"`dram {words}` ended with {child.returncode}: {said}")
    return usage.ru_maxrss // 1024
