"""What people do next with a file at OpenAI, as a cell to run."""

from __future__ import annotations

from collections.abc import Mapping

from ...model import Result

# What people do next, by purpose; models named in OpenAI's guides, read 2026-11.
_USES = {
    "fine-tune": "job = client.fine_tuning.jobs.create(\n"
    '    training_file="{id}",\n    model="gpt-4.1-mini-2025-04-14",\n)\njob.id',
    "batch": "batch = client.batches.create(\n"
    '    input_file_id="{id}",\n    endpoint="/v1/chat/completions",\n'
    '    completion_window="24h",\n)\nbatch.id',
    "assistants": 'store = client.vector_stores.create(name="my files")\n'
    'client.vector_stores.files.create(vector_store_id=store.id, file_id="{id}")',
    "user_data": 'store = client.vector_stores.create(name="my files")\n'
    'client.vector_stores.files.create(vector_store_id=store.id, file_id="{id}")',
    "vision": "answer = client.responses.create(\n"
    '    model="gpt-4.1-mini",\n'
    '    input=[{"role": "user", "content": [{"type": "input_image", "file_id": "{id}"}]}],\n'
    ")\nanswer.output_text",
}


def cell(client: str, purpose: str, result: Result) -> str:
    """Return a cell that uses a file, after the code that makes a client."""
    use = _USES.get(purpose, 'client.files.retrieve("{id}")')
    return f"{client}\n{use}".replace("{id}", result.id)


def arguments(given: Mapping[str, str]) -> str:
    """Return those that say something as they are written in a call."""
    return ", ".join(f'{name}="{value}"' for name, value in given.items() if value)
