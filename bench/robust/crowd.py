"""Many processes on one store, each with images of its own that nobody else may lose."""

import random
import threading
import time

from bed import Fault

WORKS = ["build", "build", "pull", "push", "prune", "rm", "tag", "fsck", "images", "save"]


class Member(threading.Thread):
    def __init__(self, bed, store, which, end):
        super().__init__()
        self.bed, self.store, self.which, self.end = bed, store, which, end
        self.mine = {}
        self.done = dict.fromkeys(WORKS, 0)
        self.slowest = 0
        self.fault = None
        self.context = bed.place / f"crowd-{which}"
        self.context.mkdir()

    def run(self):
        try:
            while time.monotonic() < self.end:
                work = random.choice(WORKS)
                began = time.monotonic()
                getattr(self, work)()
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.done[work] += 1
                if self.mine:
                    name = random.choice(list(self.mine))
                    self.keeps(name)
        except Exception as fault:  # noqa: BLE001: whatever it is, it is told by the main thread
            self.fault = fault

    def keeps(self, name):
        found = self.store.digest(name)
        if found != self.mine[name]:
            raise Fault(f"`{name}` was {self.mine[name]} and is {found}")

    def build(self):
        (self.context / "Dockerfile").write_text(
            f"FROM base\nRUN echo {random.randrange(4)} > /file; head -c 300000 /dev/urandom > /random\n"
            f"RUN echo {self.which}-{random.random()} > /mine\nCOPY Dockerfile /\n"
        )
        name = f"m{self.which}:{random.randrange(5)}"
        self.store.ok("build", "--progress", "plain", "-t", name, self.context)
        self.mine[name] = self.store.digest(name)

    def pull(self):
        self.store.ok("pull", f"{self.bed.registry.host}/crowd/big:1")

    def push(self):
        if self.mine:
            name = random.choice(list(self.mine))
            there = f"{self.bed.registry.host}/crowd/m{self.which}:{random.randrange(9)}"
            self.store.ok("tag", name, there)
            self.store.ok("push", there)
            if self.bed.registry.digest(there) != self.mine[name]:
                raise Fault(f"`{there}` is another image than `{name}`")
            self.store.ok("rm", there)

    def prune(self):
        self.store.ok("prune", *random.choice([[], ["--all"]]))

    def rm(self):
        if self.mine:
            name = random.choice(list(self.mine))
            del self.mine[name]
            self.store.ok("rm", name)

    def tag(self):
        if self.mine:
            name = random.choice(list(self.mine))
            new = f"m{self.which}:t{random.randrange(5)}"
            self.store.ok("tag", name, new)
            self.mine[new] = self.mine[name]

    def fsck(self):
        self.store.ok("fsck")

    def images(self):
        self.store.ok("images")

    def save(self):
        if self.mine:
            self.store.ok("save", "-o", self.context / "saved.tar", random.choice(list(self.mine)))


def crowd(bed, seconds, size=8):
    """How often each thing was done; the slowest of all."""
    store = bed.store("crowd")
    source = f"{bed.registry.host}/crowd/big:1"
    store.ok("load", bed.image(6, 3 << 20))
    store.ok("tag", "big", source)
    store.ok("push", source)
    end = time.monotonic() + seconds
    members = [Member(bed, store, which, end) for which in range(size)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    faults = [f"process {member.which}: {member.fault}" for member in members if member.fault]
    if faults:
        raise Fault("\n".join(faults))
    for member in members:
        for name in member.mine:
            member.keeps(name)
    store.ok("prune")
    store.check(["base", "big", *(name for member in members for name in member.mine)])
    store.ok("fsck")
    done = {work: sum(member.done[work] for member in members) for work in dict.fromkeys(WORKS)}
    store.remove()
    return done, max(member.slowest for member in members)
