"""Alibaba Cloud OSS: multipart upload to ``oss://bucket/key``.

What is said here about the service was read 2026-11 in the OSS developer guide, API
reference and error codes, and in its Python SDKs (oss2 2.19.1, alibabacloud-oss-v2 1.4.1).
"""

from __future__ import annotations

from ...model import Result
from .uploads import Uploads


class OSS(Uploads):
    """One object: ``oss://bucket/key``. A key that ends in ``/`` takes the file's name.

    ``region`` is the plain id (``cn-hangzhou``); signature version 4 cannot do without.
    ``endpoint`` is a host or URL, or one of ``internal``, ``dualstack``, ``accelerate``,
    ``accelerate-overseas``. ``now`` is the clock in Unix seconds; ``skew`` is what it is
    wrong by, learnt from the server's ``Date``. ``rules`` hold the limits: 10,000 parts of
    100 KiB (the last may be smaller) to 5 GiB ("Multipart upload and resumable upload",
    OSS developer guide, read 2026-11).

    Raises ``InvalidUpload`` for what cannot be an address, ``InsecureConnection`` for
    plain http to anything but this machine.
    """

    def next_cell(self, result: Result) -> str:
        """Return the code that reads the object back with the vendor's SDK."""
        key = result.id.removeprefix(f"oss://{self.bucket}/")
        style = {"path": "use_path_style=True", "cname": "use_cname=True"}.get(self._style)
        reader = {
            "csv": "pd.read_csv(io.BytesIO(data))",
            "tsv": 'pd.read_csv(io.BytesIO(data), sep="\\t")',
            "jsonl": "pd.read_json(io.BytesIO(data), lines=True)",
            "json": "pd.read_json(io.BytesIO(data))",
            "parquet": "pd.read_parquet(io.BytesIO(data))",
        }.get(key.rpartition(".")[2].lower())
        lines = [
            *(["import io"] if reader else []),
            "import alibabacloud_oss_v2 as oss",
            *(["import pandas as pd"] if reader else []),
            "",
            "config = oss.config.load_default()",
            "keys = oss.credentials.EnvironmentVariableCredentialsProvider()",
            "config.credentials_provider = keys",
            f"config.region = {self.region!r}",
            f"config.endpoint = {self.endpoint!r}",
            *([f"config.{style.replace('=', ' = ')}"] if style else []),
            "client = oss.Client(config)",
            f"request = oss.GetObjectRequest(bucket={self.bucket!r}, key={key!r})",
            "",
            "data = client.get_object(request).body.read()",
            *([f"table = {reader}"] if reader else []),
            "link = client.presign(request).url  # a password for 15 minutes: don't print it",
        ]
        return "\n".join(lines)
