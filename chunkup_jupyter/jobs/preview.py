"""What an order would do: the file is looked at, the provider is not asked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from .. import journal, preflight
from ..engine.resume import unusable
from ..model import PartReceipt
from ..plan import Plan, choose_part_size
from ..sources import Source
from . import reuse
from .orders import Order, key_of, plan_for, terms_of


async def preview(order: Order, source: Source) -> Plan:
    """Return the plan, with what the checks found, what is kept of an earlier run, and history.

    The content of a source that is read in order is left alone: it would have to be
    fetched for that. Raises ``InvalidUpload`` as the upload would.
    """
    plan, provider = plan_for(order, source), order.provider.for_file(source.info)
    if not source.in_order:
        if order.options.check and provider.kind:
            report = await preflight.check(source, provider.kind, name=source.info.name)
            seen = (report.checked,) if report.checked else ()
            plan = replace(
                plan,
                checks=(*seen, *plan.checks),
                warnings=(*plan.warnings, *report.warnings),
            )
        entries = await asyncio.to_thread(reuse.earlier, order, source.info.size, provider)
        if known := await reuse.match(source, entries):
            plan = replace(plan, notes=(*plan.notes, reuse.offer(known, time.time())))
    return _resumed(plan, order, source)


def _resumed(plan: Plan, order: Order, source: Source) -> Plan:
    """Return the plan of going on, when a journal knows a session that can be used."""
    provider, asked = order.provider.for_file(source.info), order.options.part_size
    past = journal.peek(order.state, key_of(provider, source))
    session = past.session
    if session is None or order.options.fresh:
        return plan
    if asked is not None:  # as the rules would have it
        asked = choose_part_size(source.info.size, asked, provider.rules)
    if unusable(past, source.info, asked, time.time(), terms_of(order, provider)):
        return plan
    kept: list[PartReceipt] = [past.parts[number].receipt for number in sorted(past.parts)]
    return replace(plan, part_size=session.part_size, resumable=tuple(kept))
