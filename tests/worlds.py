"""A provider's sandbox on a port, a faulty proxy before it, and uploads through both."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any

from proxy import Proxy, Rule

import chunkup_jupyter.jobs as jobs
from chunkup_jupyter.sandbox import Sandbox, Store, load
from chunkup_jupyter.sandbox.server import Served, serve
from chunkup_jupyter.transport import Policy
from chunkup_jupyter.wire import Patience

PART = 100 << 10  # bytes: the least OSS takes
SIZE = 3 * PART + 12_345  # four parts

# As stubborn as ever, only quicker. Seconds.
QUICK = Policy(
    base=0.02,
    cap=0.2,
    outage=20.0,
    patience=Patience(connect=2.0, idle=1.0, answer=1.0),
    completing=Patience(connect=2.0, idle=1.0, answer=1.0),
)


def random_bytes(size: int = SIZE, seed: int = 1) -> bytes:
    """Return the same random bytes every time."""
    return random.Random(seed).randbytes(size)


@dataclass
class World:
    """One provider behind one proxy. ``part`` and ``complete`` say which requests are which."""

    name: str
    dest: str
    part: dict[str, str]
    complete: dict[str, str]
    create: dict[str, str]
    sandbox: Sandbox
    served: Served
    proxy: Proxy

    def fields(self) -> dict[str, Any]:
        """Return what ``start`` needs to come here."""
        told = self.sandbox.announce()
        match self.name:
            case "openai":
                return {
                    "credentials": {"api_key": told["api_key"]},
                    "base_url": f"{self.proxy.base}/v1",
                    "part_size": PART,
                }
            case "oss":
                return {
                    "credentials": {
                        "access_key_id": told["access_key_id"],
                        "access_key_secret": told["access_key_secret"],
                    },
                    "endpoint": self.proxy.base,
                    "region": told["region"],
                    "part_size": PART,
                }
            case _:
                return {
                    "credentials": {"api_key": told["api_key"]},
                    "base_url": f"{self.proxy.base}/v1.3",
                }

    def start(self, source: Any, **options: Any) -> jobs.Job:
        """Start an upload through the proxy."""
        given = {"state": None, "check": False, "policy": QUICK, "jobs": 2}
        if isinstance(source, bytes):
            given["name"] = "file.bin"
        return jobs.start(source, self.dest, **{**given, **self.fields(), **options})

    def arrived(self, data: bytes) -> None:
        """Assert that exactly one file stands in the sandbox, and that it is this one."""
        made = list(self.sandbox.finished().values())
        story = [(one.method, one.target, one.trouble, one.status) for one in self.proxy.asked]
        assert len(made) == 1, story
        if made[0].sha256() != hashlib.sha256(data).hexdigest():
            pairs = zip(made[0].read(), data, strict=False)
            wrong = [at for at, (theirs, ours) in enumerate(pairs) if theirs != ours]
            raise AssertionError(f"{len(wrong)} bytes differ, from {wrong[:1]} on: {story}")

    def strike(self, *rules: Rule) -> None:
        """Let the proxy do this from now on."""
        self.proxy.rules[:] = rules

    def close(self) -> None:
        """Free both ports."""
        self.proxy.close()
        self.served.close()


def world(name: str, **limits: Any) -> World:
    """Return a provider's world: "openai", "oss" or "twelvelabs"."""
    sandbox = load(name)(store=Store())
    if name == "twelvelabs":
        limits = {"chunk_size": PART, "polls_processing": 0, **limits}
    if limits:
        sandbox.shrink(**limits)
    served = serve(sandbox)
    proxy = Proxy(sandbox.base)
    match name:
        case "openai":
            dest = "openai:user_data"
            part = {"method": "POST", "path": r"/parts$"}
            complete = {"method": "POST", "path": r"/complete$"}
            create = {"method": "POST", "path": r"/uploads$"}
        case "oss":
            dest = f"oss://{sandbox.announce()['bucket']}/folder/file.bin"
            part = {"method": "PUT", "path": r"partNumber="}
            complete = {"method": "POST", "path": r"\?uploadId="}
            create = {"method": "POST", "path": r"\?uploads"}
        case _:
            dest = "twelvelabs:video"
            sandbox.base = proxy.base  # presigned URLs come through the proxy, too
            part = {"method": "PUT", "path": r"/storage/"}
            complete = {"method": "POST", "path": r"/multipart-uploads/[^/]+$"}
            create = {"method": "POST", "path": r"/multipart-uploads$"}
    return World(name, dest, part, complete, create, sandbox, served, proxy)
