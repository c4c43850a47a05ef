"""`kill -9` at random moments of whatever writes."""

import hashlib
import random
import shutil
import subprocess
import time

from bed import Fault, kill_at, whole_layout


class Kill:
    """One command that is killed over and over. `prepare` makes it have work to do; `again` shows that it still works."""

    def __init__(self, bed):
        self.bed = bed
        self.store = bed.store(f"kill-{self.name}")
        self.settle()

    def settle(self):
        """What is needed once."""

    def prepare(self, round):
        """What is needed before each round."""

    def after(self, round):
        """What must be so after a kill, beyond what always must."""

    def again(self, round):
        self.store.ok(*self.words(round))

    def kept(self):
        """The names that must never get lost."""
        return ["base"]

    def tidy(self):
        """Brings the store to what it must be in the end, whatever happened before."""
        self.store.ok("prune", "--all")

    def trial(self, rounds):
        """How often it was killed on its way; the seconds that it takes."""
        self.prepare(0)
        began = time.monotonic()
        self.again(0)
        whole = time.monotonic() - began
        self.tidy()
        expected = self.store.files()
        killed = 0
        for round in range(1, rounds + 1):
            self.prepare(round)
            killed += kill_at(self.store.start(*self.words(round)), random.uniform(0, whole * 1.05))
            self.store.check(self.kept())
            self.after(round)
            if round % 5 == 0 or round == rounds:
                self.again(round)
                self.store.check(self.kept())
        self.store.ok("fsck")
        self.tidy()
        more = [name for name in self.store.files() if name not in expected]
        if more:
            raise Fault(f"{self.name}: {rounds} kills left behind {more[:20]}")
        self.store.remove()
        return killed, whole


class Build(Kill):
    name = "build"

    def words(self, round):
        return "build", "--no-cache", "--progress", "plain", "-t", "demo", self.bed.busy()

    def again(self, round):
        self.store.ok(*self.words(round))
        found = self.store.digest("demo")
        self.digest = getattr(self, "digest", found)
        if found != self.digest:
            raise Fault(f"the build made {self.digest}, and now {found}")


class Load(Kill):
    name = "load"

    def words(self, round):
        return "load", self.bed.image(6, 3 << 20)

    def settle(self):
        self.words(0)

    def prepare(self, round):
        self.store.run("rm", "big")
        # Every other round finds what the one before left.
        if round % 2 == 0:
            self.store.ok("prune", "--all")

    def tidy(self):
        self.store.run("rm", "big")
        super().tidy()


class Pull(Load):
    name = "pull"

    def settle(self):
        self.source = f"{self.bed.registry.host}/kills/big:1"
        self.store.ok("load", self.bed.image(6, 3 << 20))
        self.store.ok("tag", "big", self.source)
        self.store.ok("push", self.source)
        self.digest = self.store.digest("big")
        self.tidy()

    def words(self, round):
        return "pull", self.source

    def prepare(self, round):
        self.store.run("rm", self.source)
        if round % 2 == 0:
            self.store.ok("prune", "--all")

    def again(self, round):
        super().again(round)
        if self.store.digest(self.source) != self.digest:
            raise Fault("another image was pulled")

    def tidy(self):
        self.store.run("rm", "big")
        self.store.run("rm", self.source)
        self.store.ok("prune", "--all")


class Push(Kill):
    name = "push"

    def settle(self):
        self.store.ok("load", self.bed.image(6, 3 << 20))
        self.digest = self.store.digest("big")

    def place(self, round):
        return f"{self.bed.registry.host}/kills/push{round}:1"

    def prepare(self, round):
        self.store.ok("tag", "big", self.place(round))

    def words(self, round):
        return "push", self.place(round)

    def again(self, round):
        super().again(round)
        if self.bed.registry.digest(self.place(round)) != self.digest:
            raise Fault("the registry has another image")

    def after(self, round):
        self.store.ok("rm", self.place(round - 1))

    def kept(self):
        return ["base", "big"]


class Prune(Kill):
    """The same store over and over, with things that nobody needs and things that are needed."""

    name = "prune"

    def settle(self):
        self.store.ok("load", self.bed.image(6, 3 << 20))
        for _ in range(2):
            self.store.ok("build", "--no-cache", "--progress", "plain", "-t", "demo", self.bed.busy())
        self.store.ok("rm", "big")
        self.template = self.bed.place / "template"
        self.store.path.rename(self.template)
        self.prepare(0)

    def prepare(self, round):
        self.store.remove()
        subprocess.run(["cp", "-a", self.template, self.store.path], check=True)

    def words(self, round):
        return "prune", "--all"

    def kept(self):
        return ["base", "demo"]


class Save(Kill):
    """Over a file that is there: it is the old one or the new one, and nothing is beside it."""

    name = "save"

    def settle(self):
        self.store.ok("load", self.bed.image(6, 3 << 20))
        self.out = self.bed.place / "saved"
        self.out.mkdir()
        self.old = b"old" * 1000
        self.store.ok("save", "-o", self.out / "file.tar", "big")
        self.new = self.sum()

    def sum(self):
        return hashlib.sha256((self.out / "file.tar").read_bytes()).hexdigest()

    def prepare(self, round):
        (self.out / "file.tar").write_bytes(self.old)

    def words(self, round):
        return "save", "-o", self.out / "file.tar", "big"

    def after(self, round):
        if self.sum() not in (hashlib.sha256(self.old).hexdigest(), self.new):
            raise Fault("the archive is neither the old one nor the new one")

    def again(self, round):
        super().again(round)
        beside = [path.name for path in self.out.iterdir()]
        if beside != ["file.tar"]:
            raise Fault(f"beside the archive lies {beside}")


class Copy(Kill):
    """Into a layout that has another image: that one stays whole, and nothing is beside the two."""

    name = "copy"

    def settle(self):
        self.store.ok("load", self.bed.image(6, 3 << 20))
        self.out = self.bed.place / "layout"
        self.prepare(0)

    def prepare(self, round):
        shutil.rmtree(self.out, ignore_errors=True)
        self.store.ok("copy", "store:base", f"oci:{self.out}:base")

    def words(self, round):
        return "copy", "store:big", f"oci:{self.out}:big"

    def after(self, round):
        names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in whole_layout(self.out)]
        if "base" not in names:
            raise Fault(f"the layout has lost an image: {names}")

    def again(self, round):
        super().again(round)
        if len(whole_layout(self.out)) != 2:
            raise Fault("the layout has not both images")
        found = sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*"))
        self.expected = getattr(self, "expected", found)
        if found != self.expected:
            raise Fault(f"the layout holds {found} instead of {self.expected}")


KILLS = [Build, Pull, Push, Prune, Save, Load, Copy]
