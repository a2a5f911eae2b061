"""A server that speaks Alibaba Cloud OSS: objects and multipart uploads.

Statuses, codes and limits are those of the OSS developer guide and API reference,
read 2026-11; where those leave a question open, a limit lets a test choose.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from ...wire import Headers
from .. import Answer, Call
from .answers import refused
from .contents import Limits
from .objects import Objects
from .requests import is_bucket
from .signing import Checker, Refusal
from .uploads import Uploads

__all__ = ["Limits", "OSSSandbox"]

_PUBLIC = re.compile(r"(?:([a-z0-9-]+)\.)?(?:oss-[a-z0-9-]+|[a-z0-9-]+\.oss)\.aliyuncs\.com")


class OSSSandbox(Uploads, Objects):
    """Buckets that fill by themselves, one key pair, one region.

    ``security_token`` makes the key a temporary one. ``any_bucket`` lets every valid
    bucket name exist; otherwise only ``bucket`` does. A host that is neither this
    machine nor the public service counts as a domain bound to ``bucket``.
    """

    name: ClassVar[str] = "oss"

    def announce(self) -> Mapping[str, str]:
        """Return the key pair, bucket and region."""
        token = {"security_token": self.security_token} if self.security_token else {}
        return {
            "access_key_id": self.access_key_id,
            "access_key_secret": self.access_key_secret,
            **token,
            "bucket": self.bucket,
            "region": self.region,
        }

    def environment(self) -> Mapping[str, str]:
        """Return what points our provider and the vendor's tools here."""
        token = {"OSS_SESSION_TOKEN": self.security_token} if self.security_token else {}
        return {
            "OSS_ACCESS_KEY_ID": self.access_key_id,
            "OSS_ACCESS_KEY_SECRET": self.access_key_secret,
            **token,
            "OSS_REGION": self.region,
            "OSS_ENDPOINT": self.base_url,
        }

    def renew_token(self, token: str) -> None:
        """Replace the STS token; the old one is no longer valid."""
        with self.lock:
            self.security_token, self.token_expired = token, False

    def expire_token(self) -> None:
        """Let the STS token run out."""
        with self.lock:
            self.token_expired = True

    def answer(self, call: Call) -> Answer:
        """Answer one call; every answer carries a request id."""
        request_id = secrets.token_hex(12).upper()
        try:
            self._lapse()
            answer = self._route(call)
        except Refusal as no:
            answer = refused(call, no, request_id)
        fields = {"server": "AliyunOSS", "x-oss-request-id": request_id, "x-oss-server-time": "1"}
        return replace(answer, headers=Headers({**fields, **answer.headers}))

    def _route(self, call: Call) -> Answer:
        bucket, key = self._place(call)
        Checker(
            key_id=self.access_key_id,
            secret=self.access_key_secret,
            region=self.region,
            token=self.security_token,
            token_expired=self.token_expired,
            skew=self.limits.skew,
            max_expires=self.limits.max_expires,
            version_1=self.limits.signature_v1,
        ).check(call, bucket, key, self.now())
        if not bucket:
            raise Refusal(501, "NotImplemented", "Listing buckets is not part of the sandbox.")
        if not is_bucket(bucket):
            raise Refusal(400, "InvalidBucketName", "The bucket name is not valid.")
        if not self.any_bucket and bucket != self.bucket:
            raise Refusal(404, "NoSuchBucket", "The bucket does not exist.", BucketName=bucket)
        names = {name for name, _ in call.query}
        if not key:
            if call.method == "GET" and "uploads" in names:
                return self._list_uploads(call, bucket)
            if call.method == "GET" and not names & {"acl", "location", "bucketInfo", "stat"}:
                return self._list_objects(call, bucket)
            raise Refusal(501, "NotImplemented", "Not part of the sandbox.")
        if len(key.encode()) > self.limits.key_bytes or key[0] in "/\\":
            raise Refusal(400, "InvalidObjectName", "The object name is not valid.")
        match call.method:
            case "POST" if "uploads" in names:
                return self._initiate(call, bucket, key)
            case "POST" if "uploadId" in names:
                return self._complete(call, bucket, key)
            case "PUT" if "uploadId" in names or "partNumber" in names:
                return self._put_part(call, bucket, key)
            case "DELETE" if "uploadId" in names:
                return self._abort(call, bucket, key)
            case "GET" if "uploadId" in names:
                return self._list_parts(call, bucket, key)
            case "PUT" if not names & {"acl", "tagging", "symlink"}:
                return self._put_object(call, bucket, key)
            case "GET" | "HEAD" if not names & {"acl", "tagging", "symlink"}:
                return self._get_object(call, bucket, key)
            case "DELETE" if "tagging" not in names:
                return self._delete_object(bucket, key)
        raise Refusal(501, "NotImplemented", "Not part of the sandbox.")

    def _place(self, call: Call) -> tuple[str, str]:
        """Return bucket and key, from host and path; "" for what is not named."""
        host, path = urlsplit(call.url).hostname or "", call.raw_path[1:]
        try:
            if _is_bare(host):
                bucket, _, key = path.partition("/")
                return unquote(bucket, errors="strict"), unquote(key, errors="strict")
            key = unquote(path, errors="strict")
        except UnicodeDecodeError:
            raise Refusal(400, "InvalidObjectName", "The object name is not UTF-8.") from None
        if host.endswith(".localhost"):
            return host.split(".")[0], key
        if found := _PUBLIC.fullmatch(host):
            if not found[1] and key:
                raise Refusal(
                    403, "SecondLevelDomainForbidden", "Put the bucket into the host name."
                )
            return found[1] or "", key
        return self.bucket, key


def _is_bare(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
