"""What all trials share: a place, a store, a registry, and what must be so after every one of them."""

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# No command may take longer.
LIMIT = 120


def text_of(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout.strip()


class Bed:
    """A directory, with what trials need in it: a base, images as archives, a registry."""

    def __init__(self, dram, place):
        self.dram = dram
        self.place = place
        # Every process of ours has this in its environment, and sleeps so long.
        self.mark = uuid.uuid4().hex
        self.number = f"86{int(self.mark[:7], 16):09}"
        self.base = place / "base.tar"
        subprocess.run(["bash", ROOT / "tests/parity/base.sh", self.base], check=True)
        self.registry = Registry(place / "registry")

    def store(self, name, *, base=True, path=None):
        store = Store(self, path or self.place / name)
        if base:
            store.ok("import", self.base, "base")
        return store

    def close(self):
        self.registry.close()

    def image(self, layers, size):
        """An image of `layers` random layers of `size` bytes each, and the base; as an archive."""
        archive = self.place / f"image-{layers}-{size}.tar"
        if not archive.exists():
            context = self.place / f"context-{layers}-{size}"
            context.mkdir()
            copies = []
            for i in range(layers):
                with open(context / str(i), "wb") as file:
                    # In pieces: what this process once had in memory counts as a child's that it starts.
                    for done in range(0, size, 1 << 20):
                        file.write(os.urandom(min(1 << 20, size - done)))
                copies.append(f"COPY {i} /data/{i}\n")
            (context / "Dockerfile").write_text("FROM base\n" + "".join(copies))
            store = self.store(f"maker-{layers}-{size}")
            store.ok("build", "--progress", "plain", "-t", "big", context)
            store.ok("save", "-o", archive, "big")
            store.remove()
            shutil.rmtree(context)
        return archive

    def busy(self):
        """A context of three stages, with processes that do not want to go."""
        context = self.place / "busy"
        if not context.exists():
            context.mkdir()
            stay = f"(trap '' TERM INT HUP; exec sleep {self.number}) &"
            (context / "data").write_bytes(os.urandom(1 << 20) * 4)
            (context / "Dockerfile").write_text(
                f"FROM base AS a\nCOPY data /data\nRUN {stay} \\\n"
                "  for i in $(seq 40); do mkdir -p /a/$i; head -c 20000 /data > /a/$i/file; sleep 0.005; done\n"
                f"RUN rm -r /a/1; chown -R 1000:50 /a/2\nFROM base AS b\nRUN {stay} \\\n"
                "  for i in $(seq 40); do echo $i > /b-$i; ln /b-$i /c-$i; sleep 0.005; done\nFROM base\n"
                "COPY --from=a /a /a\nCOPY --from=b /b-* /b/\nCOPY data /data\nRUN cat /a/*/file /b/* > /all\n"
            )
        return context


class Registry:
    """Debian's, over HTTP, with its data in memory where there is room."""

    def __init__(self, place):
        place.mkdir()
        self.place = place
        (place / "config.yml").write_text(
            "version: 0.1\nlog: {level: warn}\nstorage:\n"
            "  filesystem: {rootdirectory: data}\n  delete: {enabled: true}\nhttp: {addr: '127.0.0.1:0'}\n"
        )
        with open(place / "log", "wb") as log:
            self.process = subprocess.Popen(
                # It ends with this program, however that ends.
                ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", "config.yml"],
                cwd=place, stdout=log, stderr=log,
            )
        for _ in range(500):
            # Which port the kernel chose, the log does not say at this level.
            found = self.ports()
            if found:
                self.host = f"127.0.0.1:{found[0]}"
                return
            time.sleep(0.02)
        raise RuntimeError("docker-registry does not start: " + (place / "log").read_text())

    def ports(self):
        sockets = set()
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
            except FileNotFoundError:
                continue  # closed since it was listed
            sockets.update(found.groups() if found else ())
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in sockets]

    def digest(self, name):
        return text_of("skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{name}")

    def close(self):
        self.process.kill()
        self.process.wait()


class Fault(Exception):
    """Something that must not be."""


class Store:
    def __init__(self, bed, path):
        self.bed = bed
        self.path = Path(path)

    def environment(self, more=None):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        # Digests are compared with those of other stores.
        own = {"DRAM_STORE": str(self.path), "TERM": "dumb", "DRAM_ROBUST": self.bed.mark, "SOURCE_DATE_EPOCH": "0"}
        return {**kept, **own, **(more or {})}

    def start(self, *words, before=(), more=None):
        words = [*map(str, before), str(self.bed.dram), *map(str, words)]
        return subprocess.Popen(
            words, env=self.environment(more), cwd=self.bed.place, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )

    def run(self, *words, **more):
        """Its exit code, and all it said."""
        child = self.start(*words, **more)
        try:
            said, _ = child.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            said, _ = child.communicate()
            raise Fault(f"`dram {' '.join(map(str, words))}` is not over after {LIMIT} s: {said}") from None
        if "panicked" in said:
            raise Fault(f"`dram {' '.join(map(str, words))}` panicked: {said}")
        return child.returncode, said

    def ok(self, *words, **more):
        code, said = self.run(*words, **more)
        if code != 0:
            raise Fault(f"`dram {' '.join(map(str, words))}` ended with {code}: {said}")
        return said

    def refused(self, *words, says, **more):
        code, said = self.run(*words, **more)
        if code == 0 or not all(word in said for word in says):
            raise Fault(f"`dram {' '.join(map(str, words))}` ended with {code}, and not with {says}: {said}")

    def digest(self, name):
        return json.loads(self.ok("inspect", name))["digest"]

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)

    def files(self):
        """Everything, but for what is known of contexts, which depends on the age of their files."""
        found = (path.relative_to(self.path) for path in self.path.rglob("*"))
        return sorted(str(path) for path in found if path.parts[0] != "contexts")

    def check(self, expected=()):
        """What must be so after anything: the next command works, all that has a name is whole, nothing is left."""
        known = {f"{image['name']}:{image['tag']}" for image in json.loads(self.ok("images", "--json"))}
        lost = [name for name in expected if (name if ":" in name.rsplit("/")[-1] else f"{name}:latest") not in known]
        if lost:
            raise Fault(f"{lost} are lost: there are {known}")
        left = [name for name in os.listdir(self.path / "work") if name != "gate"]
        if left:
            raise Fault(f"left in work/: {left}")
        self.no_traces()
        self.all_whole()

    def no_traces(self):
        """No mount, no process."""
        inside = f"{self.path}/"
        end = time.monotonic() + 3
        while True:
            mounts, processes = [], []
            for place in Path("/proc").glob("[0-9]*"):
                try:
                    mounts += [row for row in (place / "mountinfo").read_text().splitlines() if inside in row]
                    words = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
                except OSError:
                    continue
                if self.bed.mark.encode() in words or self.bed.number.encode() in words:
                    processes.append(place.name)
            if not mounts and not processes:
                return
            if time.monotonic() > end:
                raise Fault(f"mounts {mounts} and processes {processes} are left")
            time.sleep(0.02)

    def all_whole(self):
        """Every blob is what its name says, and every image has all of its blobs."""
        whole_layout(self.path / "oci")


def whole_layout(path):
    """The images of a layout, when every blob is what its name says and every image has all of its blobs."""
    for blob in (path / "blobs/sha256").iterdir():
        # What a copy into a layout left half written has such a name, until the next copy.
        if blob.name.startswith(".") and blob.name.endswith(".new"):
            continue
        if not stat.S_ISREG(blob.lstat().st_mode):
            raise Fault(f"{blob} is no file")
        with open(blob, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != blob.name:
            raise Fault(f"{blob} holds {found}, {blob.stat().st_size} bytes")
    images = json.loads((path / "index.json").read_text())["manifests"]
    for image in images:
        manifest = json.loads(blob_of(path, image).read_text())
        for part in [manifest.get("config"), *manifest.get("layers", [])]:
            if part:
                blob_of(path, part)
    return images


def blob_of(path, descriptor):
    blob = path / "blobs" / descriptor["digest"].replace(":", "/")
    if not blob.is_file() or blob.stat().st_size != descriptor["size"]:
        raise Fault(f"{blob} is missing or has another size than {descriptor}")
    return blob


def kill_at(child, delay, sent=signal.SIGKILL):
    """Waits for so long, then kills; whether it was still on its way."""
    try:
        child.communicate(timeout=delay)
        return False
    except subprocess.TimeoutExpired:
        child.send_signal(sent)
        child.communicate(timeout=LIMIT)
        return True
