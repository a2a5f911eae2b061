"""What people do next with a file, pretended: fine-tuning, batches, vector stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import Answer, Call
from .contents import Contents
from .requests import Refusal, asked_of, new_id


class NextSteps(Contents):
    """Just enough for a tutorial's last cell."""

    def _use(self, call: Call, steps: tuple[str, ...]) -> Answer:
        """Pretend to begin what people do with a file: the file must be there and fit."""
        asked = asked_of(call, allowed=None)
        now, kind = int(self.now()), "/".join(steps)
        match steps:
            case ("fine_tuning", "jobs"):
                self._file_for(asked, "training_file", "fine-tune")
                made = _fine_tuning_job(asked, now)
            case ("batches",):
                self._file_for(asked, "input_file_id", "batch")
                made = _batch(asked, now)
            case ("vector_stores",):
                made = _vector_store(asked, now)
            case ("vector_stores", store, "files") if ("vector_stores", store) in self._made:
                _, blob = self._file_for(asked, "file_id")
                made, kind = _vector_store_file(asked, store, blob.size, now), "vector_stores/files"
            case _:
                raise Refusal(404, f"Invalid URL (POST {call.path})")
        self._made[(*steps, made["id"])] = made
        return self._ok(kind, made)


def _fine_tuning_job(asked: Mapping[str, Any], now: int) -> dict[str, Any]:
    return {
        "id": new_id("ftjob-"),
        "object": "fine_tuning.job",
        "created_at": now,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": {},
        "model": str(asked.get("model", "")),
        "organization_id": "org-sandbox",
        "result_files": [],
        "seed": 0,
        "status": "queued",
        "trained_tokens": None,
        "training_file": asked["training_file"],
        "validation_file": None,
    }


def _batch(asked: Mapping[str, Any], now: int) -> dict[str, Any]:
    return {
        "id": new_id("batch_"),
        "object": "batch",
        "completion_window": str(asked.get("completion_window", "24h")),
        "created_at": now,
        "endpoint": str(asked.get("endpoint", "")),
        "input_file_id": asked["input_file_id"],
        "status": "validating",
    }


def _vector_store(asked: Mapping[str, Any], now: int) -> dict[str, Any]:
    counts = ("cancelled", "completed", "failed", "in_progress", "total")
    return {
        "id": new_id("vs_"),
        "object": "vector_store",
        "created_at": now,
        "file_counts": dict.fromkeys(counts, 0),
        "last_active_at": now,
        "metadata": {},
        "name": str(asked.get("name") or ""),
        "status": "completed",
        "usage_bytes": 0,
    }


def _vector_store_file(asked: Mapping[str, Any], store: str, size: int, now: int) -> dict[str, Any]:
    return {
        "id": asked["file_id"],
        "object": "vector_store.file",
        "created_at": now,
        "last_error": None,
        "status": "completed",
        "usage_bytes": size,
        "vector_store_id": store,
    }
