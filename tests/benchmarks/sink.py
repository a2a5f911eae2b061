"""A server that takes parts faster than anybody sends them: nginx, plain and with TLS.

nginx reads a part into memory and answers in the provider's form; everything else it
hands to ``answers``. It has one process, on a core of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from .answers import PATTERN, crc64

SIZES = (4096, 25 * 4096, *(1 << n for n in range(16, 28)), *(n << 20 for n in range(5, 64)))
"""Part sizes, in bytes, whose digests the sink knows."""


@dataclass(frozen=True)
class Sink:
    """Where it listens. ``ca`` is the file of the certificate to trust."""

    plain: int
    tls: int
    ca: Path

    def base(self, *, tls: bool, port: int | None = None) -> str:
        """Return the address that paths are appended to."""
        scheme = "https" if tls else "http"
        return f"{scheme}://127.0.0.1:{port or (self.tls if tls else self.plain)}"


@contextlib.contextmanager
def serve(folder: Path, cores: set[int]) -> Iterator[Sink]:
    """Run the sink in ``folder`` on ``cores``.

    Raises:
        SystemExit: there is no nginx.
    """
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        raise SystemExit("the benchmarks need nginx: apt install nginx-light (or nginx)")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        folder / "server.pem"
    )
    plain, tls = _free_ports(2)
    with contextlib.ExitStack() as stack:
        answers = started(
            stack,
            [sys.executable, "-m", "tests.benchmarks.answers"],
            cores,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert answers.stdout is not None
        port = int(answers.stdout.readline())
        (folder / "nginx.conf").write_text(_configuration(folder, plain, tls, port))
        for name in ("body", "proxy"):
            (folder / name).mkdir()
        # Freed memory is kept: what a fresh page costs is the kernel's business, not ours.
        memory = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 31)}
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        started(stack, command, cores, env={**os.environ, **memory})
        _wait(plain)
        yield Sink(plain, tls, folder / "ca.pem")


def started(
    stack: contextlib.ExitStack, command: list[str], cores: set[int], **options: object
) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    stack.callback(process.wait)
    stack.callback(process.terminate)
    if process.stdout is not None:
        stack.callback(process.stdout.close)
    os.sched_setaffinity(process.pid, cores)
    return process


def _free_ports(many: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(many)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise SystemExit("nginx did not start")


def _configuration(folder: Path, plain: int, tls: int, answers: int) -> str:
    inner = f"unix:{folder}/parts.sock"
    known = sorted({size for size in SIZES if size % len(PATTERN) == 0})
    tags = "\n".join(f"    {size} {_md5(size)};" for size in known)
    sums = "\n".join(f"    {size} {crc64(size)};" for size in known)
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
{user}
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  default_type application/json;
  client_max_body_size 0;
  client_body_buffer_size 80m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  keepalive_requests 1000000;
  keepalive_timeout 60s;
  ssl_certificate {folder}/server.pem;
  ssl_certificate_key {folder}/server.pem;
  ssl_protocols TLSv1.3;
  map $http_x_size $tag {{
    default 0;
{tags}
  }}
  map $http_x_size $sum {{
    default "";
{sums}
  }}
  map "$request_method $uri $arg_partNumber" $is_part {{
    default 0;
    "~^POST /openai/v1/uploads/[^/]+/parts " 1;
    "~^PUT /part/" 1;
    "~^PUT /.+ [0-9]+$" 1;
  }}
  upstream parts {{ server {inner}; keepalive 64; keepalive_requests 1000000; }}
  upstream answers {{ server 127.0.0.1:{answers}; }}
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location / {{
      if ($is_part) {{ rewrite ^(.*)$ /=$1 last; }}
      proxy_set_header X-Base $scheme://$http_host;
      proxy_pass http://answers;
    }}
    location /= {{
      internal;
      proxy_pass_request_body off;
      proxy_pass_request_headers off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Size $content_length;
      proxy_pass http://parts;
    }}
  }}
  server {{
    listen {inner};
    location /=/openai {{
      return 200 '{{"id":"part_$request_id","object":"upload.part","created_at":1700000000}}';
    }}
    location / {{
      add_header ETag '"$tag"';
      add_header x-oss-hash-crc64ecma $sum;
      add_header x-oss-request-id 0;
      return 200 "";
    }}
  }}
}}
"""


def _md5(size: int) -> str:
    return hashlib.md5(PATTERN * (size // len(PATTERN)), usedforsecurity=False).hexdigest()
