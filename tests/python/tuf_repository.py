"""Two repositories of The Update Framework, made with python-tuf and broken as ordered: `tuf_repository.py FOLDER`. Prints its address.

GET serves FOLDER. POST takes an order, a JSON object with the member `do`, and responds with `{"roots": ...}` for `UpdateTrustedRoots`."""

import datetime
import hashlib
import json
import pathlib
import shutil
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

folder = pathlib.Path(sys.argv[1])
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
ROLES = ["timestamp", "snapshot", "targets"]
SIGNED_AT = "x-steward-signed-at"


def later(days):
    return NOW + datetime.timedelta(days=days)


class Repository:
    """One repository. Two of three keys sign its root."""

    def __init__(self, name):
        self.folder = folder / name
        self.folder.mkdir()
        kinds = [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa]
        self.signers = {"root": [kind() for kind in kinds]} | {role: [CryptoSigner.generate_ed25519()] for role in ROLES}
        self.root = Root(expires=later(3650), consistent_snapshot=True)
        for role, signers in self.signers.items():
            for signer in signers:
                self.root.add_key(signer.public_key, role)
        self.root.roles["root"].threshold = 2
        self.targets = Targets(expires=later(365))
        self.snapshot = Snapshot(expires=later(30), meta={"targets.json": MetaFile(1)})
        self.timestamp = Timestamp(expires=later(7), snapshot_meta=MetaFile(1))
        for signed in (self.targets, self.snapshot, self.timestamp):
            signed.version = 0
        self.write_root()
        self.publish()

    def write(self, name, signed, signers):
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes(JSONSerializer())
        (self.folder / name).write_bytes(data)
        return MetaFile(signed.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def hash_of_root(self, version):
        return hashlib.sha256((self.folder / f"{version}.root.json").read_bytes()).hexdigest()

    def write_root(self, signers=None):
        self.write(f"{self.root.version}.root.json", self.root, signers or self.signers["root"])

    def rotate(self, role, signers=None):
        """The next root, with another key of a role."""
        new = CryptoSigner.generate_ed25519()
        old = self.signers[role].pop()
        self.root.revoke_key(old.public_key.keyid, role)
        self.root.add_key(new.public_key, role)
        self.signers[role].append(new)
        self.root.version += 1
        # Those of the root before have to sign as well.
        both = [*self.signers["root"], old] if role == "root" else self.signers["root"]
        self.write_root(signers(both) if signers else both)

    def publish(self, roles=("targets", "snapshot", "timestamp")):
        if "targets" in roles:
            self.targets.version += 1
            self.snapshot.meta["targets.json"] = self.write(
                f"{self.targets.version}.targets.json", self.targets, self.signers["targets"]
            )
        if "snapshot" in roles:
            self.snapshot.version += 1
            self.timestamp.snapshot_meta = self.write(
                f"{self.snapshot.version}.snapshot.json", self.snapshot, self.signers["snapshot"]
            )
        if "timestamp" in roles:
            self.timestamp.version += 1
            self.timestamp.unrecognized_fields.setdefault(SIGNED_AT, NOW.isoformat().replace("+00:00", "Z"))
            self.write("timestamp.json", self.timestamp, self.signers["timestamp"])

    def add(self, path, data, custom, name="steward"):
        hashes = {name: hashlib.new(name, data).hexdigest() for name in ("sha256", "sha512")}
        self.targets.targets[path] = TargetFile(len(data), hashes, path, {"custom": {name: custom}})
        return hashes["sha256"]


image, director = Repository("image"), Repository("director")
both = {"image": image, "director": director}


def release(order):
    """Adds a version of the sample app to both repositories, or to those that are named."""
    version, data = order["version"], pathlib.Path(order["file"]).read_bytes()
    name = f"lab-notes-{version}.tar.gz"
    path = order.get("path", f"lab-notes/{version}/{name}")
    identity = {"app": "lab-notes", "version": version, "system": "linux"} | order.get("identity", {})
    if "image" in order.get("in", both):
        digest = image.add(path, data, identity)
        place = image.folder / "targets" / pathlib.Path(path).parent / f"{digest}.{pathlib.Path(path).name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data + bytes(order.get("longer", 0)))
        image.publish()
    if "director" in order.get("in", both):
        if order.get("other"):
            data = bytes([data[0] ^ 1]) + data[1:]
        conditions = {"published": NOW.isoformat(), "channel": "stable"} | order.get("conditions", {})
        director.add(path, data, conditions, order.get("custom", "steward"))
        director.publish()


def member(order):
    """Sets a member of the list of targets."""
    repository = both[order["of"]]
    repository.targets.unrecognized_fields[order["name"]] = order["value"]
    repository.publish()


def publish(order):
    repository = both[order["of"]]
    for role, days in order.get("expires", {}).items():
        getattr(repository, role).expires = later(days)
    if "signed_at" in order:
        repository.timestamp.unrecognized_fields[SIGNED_AT] = order["signed_at"]
    repository.publish(order.get("roles", ("targets", "snapshot", "timestamp")))


def rotate(order):
    for _ in range(order.get("times", 1)):
        both[order["of"]].rotate(order["role"], (lambda signers: signers[:1]) if order.get("alone") else None)
    both[order["of"]].publish()


def steal(order):
    """Somebody else has keys of their own for a role that nobody trusts."""
    repository = both[order["of"]]
    kept = repository.signers[order["role"]]
    repository.signers[order["role"]] = [CryptoSigner.generate_ed25519()]
    repository.publish()
    repository.signers[order["role"]] = kept


def take_back(order):
    """A snapshot that names an older list of targets, which is signed as well."""
    repository = both[order["of"]]
    data = (repository.folder / f"{order['targets']}.targets.json").read_bytes()
    digest = {"sha256": hashlib.sha256(data).hexdigest()}
    repository.snapshot.meta["targets.json"] = MetaFile(order["targets"], len(data), digest)
    repository.publish(("snapshot", "timestamp"))


def keep(order):
    shutil.copytree(both[order["of"]].folder, folder / f"kept-{order['of']}", dirs_exist_ok=True)


def restore(order):
    """Files of before, over those of now."""
    for name in order["names"]:
        shutil.copy(folder / f"kept-{order['of']}" / name, both[order["of"]].folder / name)


def replace(order):
    place = both[order["of"]].folder / order["name"]
    if order.get("with"):
        shutil.copy(both[order["of"]].folder / order["with"], place)
    else:
        place.write_bytes(order.get("text", "").encode() * order.get("times", 1))


ORDERS = {
    "release": release,
    "member": member,
    "publish": publish,
    "rotate": rotate,
    "steal": steal,
    "take-back": take_back,
    "keep": keep,
    "restore": restore,
    "replace": replace,
    "roots": lambda _: None,
}


class Handler(SimpleHTTPRequestHandler):
    def do_POST(self):
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))
        ORDERS[order["do"]](order)
        roots = f"1:{image.hash_of_root(1)}+1:{director.hash_of_root(1)}"
        later = "+".join(f"{one.root.version}:{one.hash_of_root(one.root.version)}" for one in (image, director))
        body = json.dumps({"roots": roots, "later_roots": later}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with (folder / "requests").open("a") as log:
            log.write(f"{self.path}\n")
        super().do_GET()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
