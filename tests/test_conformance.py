"""Every provider sits the exam."""

from __future__ import annotations

from dataclasses import replace

from chunkup_jupyter.conformance import ProviderConformance
from chunkup_jupyter.providers.openai import OpenAI
from chunkup_jupyter.providers.oss import OSS
from chunkup_jupyter.providers.twelvelabs import TwelveLabs
from chunkup_jupyter.sandbox.openai import OpenAISandbox
from chunkup_jupyter.sandbox.oss import OSSSandbox
from chunkup_jupyter.sandbox.twelvelabs import TwelveLabsSandbox
from chunkup_jupyter.secrets import Secret


class TestOpenAI(ProviderConformance):
    def sandbox(self, now):
        made = OpenAISandbox(now=now)
        made.shrink(max_part=50)
        return made

    def provider(self, sandbox, now):
        made = OpenAI.from_url(
            "openai:user_data", base_url=sandbox.base_url, api_key=Secret(sandbox.api_key)
        )
        return replace(made, rules=replace(made.rules, max_part=50))


class TestOpenAICountingDuplicates(TestOpenAI):
    """The other reading of the vendor's words: bytes sent twice count twice.

    One new session is begun for that, not many, so faults are rarer here.
    """

    uploads = 100
    rates = (0.0, 0.02)
    part_sizes = (100, 300)
    test_every_verb_may_be_repeated = None  # a part sent twice is what this server refuses

    def sandbox(self, now):
        made = super().sandbox(now)
        made.shrink(count_duplicates=True, max_part=300)
        return made

    def provider(self, sandbox, now):
        made = super().provider(sandbox, now)
        return replace(made, rules=replace(made.rules, max_part=300))


class TestTwelveLabs(ProviderConformance):
    file_name = "film.mp4"

    def sandbox(self, now):
        made = TwelveLabsSandbox(now=now)
        made.shrink(chunk_size=16, urls_first=3, report_most=4)
        return made

    def provider(self, sandbox, now):
        made = TwelveLabs.from_url(
            "twelvelabs:video",
            base_url=sandbox.base_url,
            api_key=Secret(sandbox.api_key),
            now=now,
        )
        return replace(made, rules=replace(made.rules, report_every=4))


class TestOSS(ProviderConformance):
    sizes = (0, 300)

    def sandbox(self, now):
        made = OSSSandbox(now=now)
        made.shrink(min_part=7, max_part=50, page=3)
        return made

    def provider(self, sandbox, now):
        made = OSS.from_url(
            "oss://sandbox/folder/",
            endpoint=sandbox.base_url,
            region=sandbox.region,
            access_key_id=Secret(sandbox.access_key_id),
            access_key_secret=Secret(sandbox.access_key_secret),
            now=now,
        )
        return replace(made, rules=replace(made.rules, min_part=7, max_part=50))
