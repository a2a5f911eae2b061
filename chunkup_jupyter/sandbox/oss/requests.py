"""What calls may say: headers, digests, numbers, names."""

from __future__ import annotations

import base64
import re
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from .. import Call
from .signing import Refusal

ACLS = ("default", "private", "public-read", "public-read-write")
_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_TRAFFIC = (819_200, 838_860_800)  # bits a second


def check_made(call: Call, most_tags: int) -> None:
    """Refuse an object that is described wrongly."""
    check_traffic(call)
    if call.headers.get("x-oss-storage-class", "Standard") not in _CLASSES:
        raise Refusal(400, "InvalidArgument", "No such storage class.")
    if call.headers.get("x-oss-forbid-overwrite", "false") not in ("true", "false"):
        raise Refusal(400, "InvalidArgument", "x-oss-forbid-overwrite is true or false.")
    tags = parse_qsl(call.headers.get("x-oss-tagging", ""), keep_blank_values=True)
    if len(tags) > most_tags or len(dict(tags)) != len(tags):
        raise Refusal(400, "InvalidTag", "Too many tags, or one twice.")


def check_md5(call: Call, md5: str) -> None:
    """Refuse a body that is not what Content-MD5 says."""
    given = call.headers.get("content-md5")
    if given is not None and given != base64.b64encode(bytes.fromhex(md5)).decode():
        raise Refusal(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")


def check_length(call: Call) -> None:
    """Refuse a body of untold length."""
    over_a_port = "host" in call.headers
    if over_a_port and not {"content-length", "transfer-encoding"} & set(call.headers):
        raise Refusal(411, "MissingContentLength", "You must provide the Content-Length.")


def check_traffic(call: Call) -> None:
    """Refuse a limit on traffic that is out of bounds."""
    given = call.headers.get("x-oss-traffic-limit", call.get("x-oss-traffic-limit"))
    if given is not None and not (
        re.fullmatch(r"[0-9]{1,12}", given) and _TRAFFIC[0] <= int(given) <= _TRAFFIC[1]
    ):
        raise Refusal(
            400,
            "InvalidArgument",
            "The traffic limit is out of range.",
            ArgumentName="x-oss-traffic-limit",
            ArgumentValue=given,
        )


def listed_parts(call: Call) -> list[tuple[int, str]]:
    """Return the numbers and ETags that a completion lists."""
    body = call.body.read(4 << 20)
    try:
        if b"<!" in body or call.body.size > len(body):
            raise ValueError
        root = ElementTree.fromstring(body)
        if root.tag.rpartition("}")[2] != "CompleteMultipartUpload" or not len(root):
            raise ValueError
        listed = []
        for part in root:
            fields = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in part}
            listed.append((int(fields["PartNumber"]), fields["ETag"]))
    except (ElementTree.ParseError, ValueError, KeyError):
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed.") from None
    return listed


def range_of(text: str, size: int) -> tuple[int, int] | None:
    """Return start and end (exclusive) of a range; None for all, as for a bad one."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    return (start, end) if start < end else None


def number_of(call: Call, name: str, default: int) -> int:
    """Return a whole number of the query."""
    text = call.get(name)
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(
            400,
            "InvalidArgument",
            f"{name} must be an integer.",
            ArgumentName=name,
            ArgumentValue=text,
        )
    return int(text)


def page_of(call: Call, name: str, default: int, limit: int) -> int:
    """Return how many entries a page has: as asked, and no more than ``limit``."""
    most = number_of(call, name, default)
    if not 1 <= most <= 1000:
        raise Refusal(
            400,
            "InvalidArgument",
            f"{name} is 1 to 1000.",
            ArgumentName=name,
            ArgumentValue=str(most),
        )
    return min(most, limit)


def is_bucket(name: str) -> bool:
    """Say whether a bucket may be called so."""
    return re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name) is not None
