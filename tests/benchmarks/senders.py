"""Who sends: our uploader and its peers, each as a function that prepares and one that runs.

Run as a process, ``python -m tests.benchmarks.senders NAME CASE``, with the case as
JSON; prints what it took as JSON. Peers are used as their documentation says, with the
same part size and as many parts at once; none is slowed down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BLOCK = 512 << 10  # bytes that bare httpx reads at once
RAW_BLOCK = 256 << 10  # and raw asyncio: what it is fastest with


@dataclass(frozen=True)
class Case:
    """One measurement. Sizes in bytes; ``jobs`` 0 leaves the number to the sender.

    ``path`` is a file, or a folder where there are ``many``; ``first`` is one of the size
    of a part, sent before the clock starts: imports and certificates are not counted.
    """

    base: str
    ca: str
    path: str
    first: str
    work: str
    size: int
    part_size: int
    jobs: int = 4
    cores: tuple[int, ...] = (0,)
    many: bool = False


Run = Callable[[], Any]
SENDERS: dict[str, Callable[[Case], Run]] = {}


def sender(name: str) -> Callable[[Callable[[Case], Run]], Callable[[Case], Run]]:
    """Enter a function under a name. It imports and prepares, and returns what is timed."""

    def enter(prepare: Callable[[Case], Run]) -> Callable[[Case], Run]:
        SENDERS[name] = prepare
        return prepare

    return enter


# -- ours


def _ours(dest: str, *, fast: bool, verify: str = "auto", **fields: Any) -> Callable[[Case], Run]:
    def prepare(case: Case) -> Run:
        os.environ["CHUNKUP_FAST"] = "1" if fast else ""
        import chunkup_jupyter
        from chunkup_jupyter.jobs import background

        background.loop()
        scheme = dest.partition(":")[0]
        options: dict[str, Any] = {
            "jobs": case.jobs or None,
            "verify": verify,
            "check": False,
            "state": Path(case.work) / "state",
            **fields,
        }
        if scheme != "twelvelabs":
            options["part_size"] = case.part_size
        else:
            options["wait_ready"] = False
        options |= {
            "openai": {"base_url": f"{case.base}/openai/v1", "credentials": {"api_key": "k"}},
            "oss": {
                "endpoint": case.base,
                "addressing": "path",
                "region": "cn-hangzhou",
                "credentials": {"access_key_id": "k", "access_key_secret": "s"},
            },
            "twelvelabs": {
                "base_url": f"{case.base}/twelvelabs/{case.part_size}",
                "credentials": {"api_key": "k"},
            },
        }[scheme]
        target = dest.format(size=case.size)
        if case.many:
            return lambda: chunkup_jupyter.upload_many(
                [case.path], target, recursive=True, **options
            )
        return lambda: chunkup_jupyter.upload(case.path, target, **options)

    return prepare


for _name, _fast in (("", False), (" fast", True)):
    SENDERS[f"chunkup oss{_name}"] = _ours("oss://bench/file-{size}.bin", fast=_fast)
    SENDERS[f"chunkup oss folder{_name}"] = _ours("oss://bench/many/", fast=_fast)
    SENDERS[f"chunkup openai{_name}"] = _ours("openai:user_data", fast=_fast, verify="none")
    SENDERS[f"chunkup openai md5{_name}"] = _ours("openai:user_data", fast=_fast)
    SENDERS[f"chunkup twelvelabs{_name}"] = _ours("twelvelabs:video", fast=_fast, verify="none")
    SENDERS[f"chunkup twelvelabs md5{_name}"] = _ours("twelvelabs:video", fast=_fast)


# -- the vendors' own


def _openai(case: Case) -> Any:
    import openai

    return openai.OpenAI(api_key="k", base_url=f"{case.base}/openai/v1", max_retries=0)


@sender("openai upload_file_chunked")
def _openai_chunked(case: Case) -> Run:
    client = _openai(case)
    own = {} if case.jobs == 0 else {"part_size": case.part_size}
    return lambda: client.uploads.upload_file_chunked(
        file=Path(case.path), mime_type="application/octet-stream", purpose="user_data", **own
    )


@sender("openai parts.create in threads")
def _openai_threads(case: Case) -> Run:
    client = _openai(case)

    def run() -> None:
        upload = client.uploads.create(
            bytes=case.size,
            filename="file.bin",
            mime_type="application/octet-stream",
            purpose="user_data",
        )

        def put(start: int) -> str:
            with open(case.path, "rb") as file:
                file.seek(start)
                data = file.read(case.part_size)
            return client.uploads.parts.create(upload.id, data=data).id

        with ThreadPoolExecutor(case.jobs or 4) as pool:
            ids = list(pool.map(put, range(0, case.size, case.part_size)))
        client.uploads.complete(upload.id, part_ids=ids)

    return run


@sender("oss2 resumable_upload")
def _oss2(case: Case) -> Run:
    import oss2

    auth = oss2.AuthV4("k", "s")
    bucket = oss2.Bucket(auth, case.base, "bench", region="cn-hangzhou")
    return lambda: oss2.resumable_upload(
        bucket,
        f"file-{case.size}.bin",
        case.path,
        store=oss2.ResumableStore(root=case.work),
        multipart_threshold=1,
        part_size=case.part_size,
        num_threads=case.jobs or 4,
    )


@sender("alibabacloud-oss-v2 Uploader")
def _oss_v2(case: Case) -> Run:
    import alibabacloud_oss_v2 as oss

    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider("k", "s")
    config.region, config.endpoint, config.use_path_style = "cn-hangzhou", case.base, True
    uploader = oss.Uploader(
        oss.Client(config), part_size=case.part_size, parallel_num=case.jobs or 4
    )
    request = oss.PutObjectRequest(bucket="bench", key=f"file-{case.size}.bin")
    return lambda: uploader.upload_file(request, case.path)


@sender("twelvelabs upload_file")
def _twelvelabs(case: Case) -> Run:
    from twelvelabs import TwelveLabs

    tempfile.tempdir = case.work
    client = TwelveLabs(api_key="k", base_url=f"{case.base}/twelvelabs/{case.part_size}")
    return lambda: client.multipart_upload.upload_file(case.path, max_workers=case.jobs or 5)


# -- generic references


@sender("boto3 upload_file")
def _boto3(case: Case) -> Run:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=case.base,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
        verify=case.ca,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )
    config = TransferConfig(
        multipart_threshold=1,
        multipart_chunksize=max(case.part_size, 5 << 20),
        max_concurrency=case.jobs or 10,
    )
    return lambda: client.upload_file(case.path, "bench", "file.bin", Config=config)


@sender("obstore put")
def _obstore(case: Case) -> Run:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        "bench",
        endpoint=case.base,
        region="us-east-1",
        access_key_id="k",
        secret_access_key="s",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return lambda: obstore.put(
        store,
        "file.bin",
        Path(case.path),
        use_multipart=True,
        chunk_size=case.part_size,
        max_concurrency=case.jobs or 12,
    )


@sender("curl --parallel")
def _curl(case: Case) -> Run:
    folder = Path(case.work) / "curl"
    lines = [f'cacert = "{case.ca}"', "silent", "fail", "http1.1"]
    lines += ["parallel", f"parallel-max = {case.jobs or 4}"]
    for number, part in enumerate(sorted(folder.iterdir()), 1):
        url = f"{case.base}/bench/file.bin?partNumber={number}&uploadId=U1"
        lines += [f'upload-file = "{part}"', f'url = "{url}"', 'output = "/dev/null"']
    config = Path(case.work) / "curl.conf"
    config.write_text("\n".join(lines))
    return lambda: subprocess.run(["curl", "-q", "-K", str(config)], check=True)


def split_for_curl(case: Case) -> None:
    """curl cannot send a range of a file: give it the parts as files, outside the clock."""
    folder = Path(case.work) / "curl"
    folder.mkdir(exist_ok=True)
    with open(case.path, "rb") as file:
        for number in range(-(-case.size // case.part_size)):
            (folder / f"{number:06}").write_bytes(file.read(case.part_size))


@sender("raw asyncio and ssl")
def _raw(case: Case) -> Run:
    parts = urlsplit(case.base)
    context = ssl.create_default_context(cafile=case.ca) if parts.scheme == "https" else None

    async def work(file: int, starts: list[int]) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
        while starts:
            start = starts.pop()
            size = min(case.part_size, case.size - start)
            target = f"/bench/file.bin?partNumber={start // case.part_size + 1}&uploadId=U1"
            head = (
                f"PUT {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {size}\r\n\r\n"
            )
            writer.write(head.encode())
            for at in range(start, start + size, RAW_BLOCK):
                writer.write(os.pread(file, min(RAW_BLOCK, start + size - at), at))
                await writer.drain()
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in answer, answer
            left = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-l")]
            await reader.readexactly(int(left[0].split(b":")[1]))
        writer.close()

    async def run() -> None:
        file = os.open(case.path, os.O_RDONLY)
        starts = list(range(0, case.size, case.part_size))[::-1]
        await asyncio.gather(*(work(file, starts) for _ in range(case.jobs or 4)))
        os.close(file)

    return lambda: asyncio.run(run())


@sender("bare httpx")
def _bare(case: Case) -> Run:
    """httpx with streamed bodies and nothing around it: what our engine's costs are held to."""
    import httpx

    file = os.open(case.path, os.O_RDONLY)

    async def body(start: int, size: int) -> Any:
        for at in range(start, start + size, BLOCK):
            yield os.pread(file, min(BLOCK, start + size - at), at)

    async def work(client: httpx.AsyncClient, starts: list[int]) -> None:
        while starts:
            start = starts.pop()
            size = min(case.part_size, case.size - start)
            url = f"{case.base}/bench/file.bin?partNumber={start // case.part_size + 1}"
            answer = await client.put(
                url, content=body(start, size), headers={"Content-Length": str(size)}
            )
            answer.raise_for_status()

    async def run() -> None:
        starts = list(range(0, case.size, case.part_size))[::-1]
        async with httpx.AsyncClient(timeout=30, trust_env=False, verify=_context(case)) as client:
            await asyncio.gather(*(work(client, starts) for _ in range(case.jobs or 4)))

    return lambda: asyncio.run(run())


def _context(case: Case) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=case.ca)


@sender("hashlib md5")
def _md5(case: Case) -> Run:
    import hashlib

    def run() -> None:
        digest = hashlib.md5(usedforsecurity=False)
        with open(case.path, "rb", buffering=0) as file:
            while block := file.read(4 << 20):
                digest.update(block)

    return run


# -- measuring


@dataclass(frozen=True)
class Taken:
    """What it took: seconds, seconds of CPU, bytes of memory at most and beyond the start.

    ``written`` are bytes that went to files: a second copy on disk would be seen.
    """

    seconds: float
    cpu: float
    peak: int
    growth: int
    written: int


def measure(name: str, case: Case) -> Taken:
    """Run one sender in this process."""
    os.sched_setaffinity(0, case.cores)
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        os.environ[variable] = case.ca
    curl = name.startswith("curl")
    before = _number("status", "VmRSS") * 1024
    if not curl:
        SENDERS[name](replace(case, path=case.first, size=case.part_size, many=False))()
    run = SENDERS[name](case)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    began, cpu, written = time.perf_counter(), _cpu(), _number("io", "wchar")
    run()
    seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    written = _number("io", "wchar") - written
    peak = _number("status", "VmHWM") * 1024
    if curl:
        peak, before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, 0
    return Taken(seconds, cpu, peak, peak - before, written)


def _cpu() -> float:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(one)[:2]) for one in who)


def _number(file: str, field: str) -> int:
    """Return what Linux says of this process."""
    for line in Path(f"/proc/self/{file}").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0


def in_process(name: str, case: Case) -> Taken:
    """Run one sender in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.senders", name, json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip()[-2000:]}")
    return Taken(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    given["cores"] = tuple(given["cores"])
    print(json.dumps(asdict(measure(sys.argv[1], Case(**given)))), flush=True)
    os._exit(0)  # some libraries' threads crash in an interpreter that ends
