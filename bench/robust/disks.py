"""Disks that are full, that cannot be written, and that lose power."""

import contextlib
import fcntl
import os
import random
import struct
import subprocess
import time
import uuid

from bed import LIMIT, Fault

# ext4's: nothing more reaches the disk, not even its journal.
GOING_DOWN = 0x8004587D
NO_FLUSH = 2


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


@contextlib.contextmanager
def memory(place, size):
    """A file system of this size in memory."""
    place.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", place)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def commands(bed, round):
    """What writes much."""
    archive = bed.image(6, 3 << 20)
    big = f"{bed.registry.host}/disks/big:1"
    return {
        "import": ("import", bed.base, "other"),
        "load": ("load", archive),
        "pull": ("pull", big),
        "build": ("build", "--no-cache", "--progress", "plain", "-t", "demo", bed.busy()),
    }


def offer(bed):
    store = bed.store("offer")
    store.ok("load", bed.image(6, 3 << 20))
    store.ok("tag", "big", f"{bed.registry.host}/disks/big:1")
    store.ok("push", f"{bed.registry.host}/disks/big:1")
    store.remove()


def full(bed, rounds):
    """Each command on disks of random sizes; how often there was no room."""
    offer(bed)
    place = bed.place / "small"
    refused = 0
    for round in range(rounds):
        for name, words in commands(bed, round).items():
            most = {"import": 6, "build": 40}.get(name, 30)
            with memory(place, f"{random.randrange(3 << 10, most << 10)}k"):
                store = bed.store("small", path=place / "store", base=False)
                code, _ = store.run("import", bed.base, "base")
                code, said = store.run(*words)
                if code != 0:
                    refused += 1
                    fits = "o space left on device" in said and ("prune" in said or name == "build")
                    if not fits and "base" not in said:
                        raise Fault(f"`dram {name}` on a full disk says {said}")
                store.check()
                # With more room all is well, and without anybody's help.
                mount("-o", "remount,size=500m", place)
                store.ok("import", bed.base, "base")
                store.ok(*words)
                store.check(["base"])
    return refused


def read_only(bed):
    """What only reads goes on; the rest says why not."""
    place = bed.place / "still"
    there = f"{bed.registry.host}/disks/read-only:1"
    with memory(place, "200m"):
        store = bed.store("still", path=place / "store")
        store.ok("load", bed.image(6, 3 << 20))
        store.ok("tag", "big", there)
        mount("-o", "remount,ro", place)
        for words in [("images",), ("inspect", "big"), ("history", "big"), ("push", there), ("df",), ("fsck",)]:
            store.ok(*words)
        if bed.registry.digest(there) != store.digest("big"):
            raise Fault("another image was pushed")
        for name, words in commands(bed, 0).items():
            store.refused(*words, says=["read-only"])
        store.refused("fsck", "--repair", says=["read-only"])
        store.refused("prune", says=["read-only"])


def put_on(image, place):
    """Mounts it as after another start of the machine, which a power cut is: the store's marks are of an earlier one."""
    mount("-o", "loop", image, place)
    unsynced = place / "store/unsynced"
    for marks in list(unsynced.iterdir()) if unsynced.is_dir() else []:
        marks.rename(unsynced / str(uuid.uuid4()))


def take_off(image, place):
    """Unmounts it everywhere: who dies with its jail may hold it for a moment, and the next mount would be the same one."""
    subprocess.run(["umount", place], check=True)
    for _ in range(int(LIMIT / 0.05)):
        if not subprocess.run(["losetup", "-j", image], stdout=subprocess.PIPE, check=True).stdout:
            return
        time.sleep(0.05)
    raise Fault("a dead command holds the disk")


def power_cut(bed, rounds):
    """The disk forgets what was not synced, in the middle of something; how often it was in the middle."""
    offer(bed)
    image, place = bed.place / "disk.img", bed.place / "disk"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(600 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    cut, kept = 0, []
    for round in range(rounds):
        put_on(image, place)
        try:
            store = bed.store("power", path=place / "store", base=False)
            if round == 0:
                store.ok("import", bed.base, "base")
            store.check(["base", *kept])
            name = f"kept:{round}"
            store.ok("tag", "base", name)
            kept = [*kept[-5:], name]
            words = random.choice(list(commands(bed, round).values()) + [("prune", "--all")])
            child = store.start(*words)
            time.sleep(random.uniform(0, 1.5))
            cut += child.poll() is None
            # What was told to be done must be there, however short ago.
            store_dir = os.open(place, os.O_RDONLY)
            fcntl.ioctl(store_dir, GOING_DOWN, struct.pack("I", NO_FLUSH))
            os.close(store_dir)
            child.kill()
            child.communicate(timeout=LIMIT)
            store.no_traces()
        finally:
            take_off(image, place)
    put_on(image, place)
    try:
        store.check(["base", *kept])
        for words in commands(bed, 0).values():
            store.ok(*words)
        store.check(["base", *kept])
    finally:
        take_off(image, place)
    return cut
