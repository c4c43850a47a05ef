"""Few files, little memory."""

import time

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
    """The kernel's own mark of the program itself: what `wait4` tells has this program's memory in it, too."""
    child = store.start(*words)
    most = 0
    while child.poll() is None:
        try:
            with open(f"/proc/{child.pid}/status") as status:
                marks = [line.split()[1] for line in status if line.startswith("VmHWM:")]
            most = max([most, *map(int, marks)])
        except OSError:
            pass
        time.sleep(0.01)
    said = child.stdout.read()
    if child.returncode != 0:
        raise Fault(f"`dram {words}` ended with {child.returncode}: {said}")
    return most // 1024
