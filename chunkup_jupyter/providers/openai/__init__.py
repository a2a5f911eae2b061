"""OpenAI and Azure OpenAI: where they are, what they take, who is let in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...errors import CredentialsMissing, InvalidUpload
from ...model import Rules, option
from ...secrets import Need, Secret
from .next_cell import arguments
from .settings import NO_KEY
from .uploads import Uploads

RULES = Rules(
    min_size=1,  # not documented; a part of no bytes makes no sense to the API
    max_size=8 << 30,  # "8 GB", Create upload, API reference, read 2026-08
    advised_max=8 * 10**9,
    advice="OpenAI takes up to 8 GB and does not say whether that means 8 GiB; "
    "this file is in between and may be refused at the end",
    max_part=64 << 20,  # "64 MB", Add upload part; its own SDK (3.52) sends 64 MiB parts
    life=3600,  # "one hour", Create upload, API reference, read 2026-08
    digest="md5",
    # 409 is a "lock timeout" to the SDK (3.52, _base_client.py), which repeats it, too.
    retry_on=Rules.retry_on | {409},
    fatal_codes=frozenset(
        {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
    ),
)
AZURE_RULES = Rules(
    min_size=1,
    max_size=9 << 30,  # "9 GB", Upload File - Add Part, Azure OpenAI REST 2024-10-21
    advised_max=9 * 10**9,
    advice="Azure OpenAI takes up to 9 GB and does not say whether that means 9 GiB; "
    "this file is in between and may be refused at the end",
    max_part=RULES.max_part,  # Azure: "the standard file size limit of the purpose"
    life=7200,  # "two hours", Upload File - Start, 2024-08-01-preview
    digest="md5",
    retry_on=RULES.retry_on,
    fatal_codes=RULES.fatal_codes,
)


@dataclass(frozen=True, kw_only=True, repr=False)
class OpenAI(Uploads):
    """Files at OpenAI, or at a server that offers the same API: ``openai:PURPOSE``.

    ``expires_after`` is how long the file is kept, in seconds or as "7d"; None keeps it.
    ``base_url`` ends where the API's paths begin, usually in ``/v1``. ``rules`` hold the
    limits: 8 GB a file, 64 MB a part, one hour a session ("Create upload" and "Add upload
    part", OpenAI API reference, read 2026-08).

    Raises ``InvalidUpload`` for settings that cannot be sent, ``InsecureConnection`` for
    plain http to anything but this machine.
    """

    title: ClassVar[str] = "OpenAI"
    scheme: ClassVar[str] = "openai"
    form: ClassVar[str] = "openai:PURPOSE"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("api_key", ("OPENAI_API_KEY",)),
        Need("base_url", ("OPENAI_BASE_URL",), secret=False, required=False),
        Need("organization", ("OPENAI_ORG_ID",), secret=False, required=False),
        Need("project", ("OPENAI_PROJECT_ID",), secret=False, required=False),
    )
    _address_hint: ClassVar[str] = "most base URLs end in /v1"

    rules: Rules = RULES
    api_key: Secret = NO_KEY
    base_url: str = option(
        "https://api.openai.com/v1",
        help="the API's address, up to /v1",
        aliases=("endpoint",),
        address=True,
    )
    organization: str = option("", help="the organization that is billed (org-…)")
    project: str = option("", help="the project that owns the file (proj_…)")

    def __post_init__(self) -> None:
        for name in ("organization", "project"):
            if not re.fullmatch(r"[!-~]*", getattr(self, name)):
                raise InvalidUpload(f"{name} holds characters that cannot stand in a header")
        super().__post_init__()

    @property
    def account(self) -> str:
        """Address, organization, project, and which key, told apart but not shown."""
        return f"{self._base} {self.organization} {self.project} {self.api_key.identity()}"

    @property
    def _base(self) -> str:
        return self.base_url.strip().rstrip("/")

    def _auth(self) -> dict[str, str]:
        named = {"OpenAI-Organization": self.organization, "OpenAI-Project": self.project}
        sent = {name: value for name, value in named.items() if value}
        if self.api_key:
            sent["Authorization"] = f"Bearer {self.api_key.reveal()}"
        return sent

    def _client_code(self) -> str:
        default = type(self).__dataclass_fields__["base_url"].default
        given = {
            "base_url": "" if self._base == default else self._base,
            "organization": self.organization,
            "project": self.project,
        }
        return f"from openai import OpenAI\n\nclient = OpenAI({arguments(given)})"


@dataclass(frozen=True, kw_only=True, repr=False)
class AzureOpenAI(Uploads):
    """Files at an Azure OpenAI resource, by key or by Entra token: ``azure-openai:PURPOSE``.

    ``endpoint`` is the resource's address, ``https://NAME.openai.azure.com``. Otherwise as
    ``OpenAI``, but for 9 GB a file and two hours a session (Azure OpenAI REST reference,
    read 2026-11).

    Raises ``InvalidUpload`` for settings that cannot be sent, ``InsecureConnection`` for
    plain http to anything but this machine.
    """

    title: ClassVar[str] = "Azure OpenAI"
    scheme: ClassVar[str] = "azure-openai"
    form: ClassVar[str] = "azure-openai:PURPOSE"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("api_key", ("AZURE_OPENAI_API_KEY",), required=False),
        Need("ad_token", ("AZURE_OPENAI_AD_TOKEN",), required=False),
        Need("endpoint", ("AZURE_OPENAI_ENDPOINT",), secret=False),
        Need("api_version", ("OPENAI_API_VERSION",), secret=False, required=False),
    )
    _address_hint: ClassVar[str] = (
        "uploads are offered by a resource (https://NAME.openai.azure.com), not by a project "
        "or a deployment; --url-style v1 and --url-style dated are tried apart"
    )

    rules: Rules = AZURE_RULES
    api_key: Secret = NO_KEY
    ad_token: Secret = NO_KEY
    endpoint: str = option(
        "",
        help="the resource's address (https://NAME.openai.azure.com)",
        aliases=("base-url",),
        address=True,
    )
    # The first general version that has uploads, Azure OpenAI REST reference, read 2026-11.
    api_version: str = option("2024-10-21", help="the version in dated addresses")
    url_style: str = option(
        "",
        help="/openai?api-version=… or /openai/v1; found out from the endpoint",
        choices=("dated", "v1"),
    )

    def __post_init__(self) -> None:
        if not self.endpoint:
            raise InvalidUpload(
                "Azure OpenAI needs the resource's address: --endpoint "
                "https://NAME.openai.azure.com, or AZURE_OPENAI_ENDPOINT"
            )
        if self.url_style not in ("", "dated", "v1"):
            raise InvalidUpload(f"{self.url_style!r} is no URL style; there are dated and v1")
        if not re.fullmatch(r"[A-Za-z0-9.-]*", self.api_version):
            raise InvalidUpload(f"{self.api_version!r} is no API version")
        super().__post_init__()
        if not self.api_key and not self.ad_token:
            raise CredentialsMissing(
                "no key for Azure OpenAI: looked for AZURE_OPENAI_API_KEY and "
                "AZURE_OPENAI_AD_TOKEN; set one, or try --ask-key or --sandbox"
            )

    @property
    def account(self) -> str:
        """The resource, and which key; tokens change by the hour, so any is as good."""
        return f"{self._base} {'entra' if self.ad_token else self.api_key.identity()}"

    @property
    def _root(self) -> tuple[str, bool]:
        """The resource's address, and whether its /openai/v1 is meant."""
        root = self.endpoint.strip().rstrip("/")
        found = re.fullmatch(r"(.*?)/openai(/v1)?", root)
        named_v1 = bool(found and found[2]) or self.api_version in ("v1", "preview", "latest")
        return (found[1] if found else root), (
            self.url_style == "v1" if self.url_style else named_v1
        )

    @property
    def _base(self) -> str:
        root, v1 = self._root
        return f"{root}/openai/v1" if v1 else f"{root}/openai"

    @property
    def _query(self) -> Mapping[str, str]:
        # The newer surface has no dated versions; "preview" is a word of its own there.
        if self._root[1]:
            words = ("preview", "latest")
            return {"api-version": self.api_version} if self.api_version in words else {}
        return {"api-version": self.api_version}

    def _auth(self) -> dict[str, str]:
        if self.ad_token:
            return {"Authorization": f"Bearer {self.ad_token.reveal()}"}
        return {"api-key": self.api_key.reveal()}

    def _client_code(self) -> str:
        root, v1 = self._root
        if v1:
            given = arguments({"base_url": self._base})
            key = "AZURE_OPENAI_AD_TOKEN" if self.ad_token else "AZURE_OPENAI_API_KEY"
            return (
                f"import os\n\nfrom openai import OpenAI\n\n"
                f'client = OpenAI({given}, api_key=os.environ["{key}"])'
            )
        given = arguments({"azure_endpoint": root, "api_version": self.api_version})
        return f"from openai import AzureOpenAI\n\nclient = AzureOpenAI({given})"
