"""OpenAI's uploads and files on this machine, under OpenAI's addresses and under Azure's.

What the API description (2026-08) leaves open is answered strictly: a second completion
is refused, and so is any key nobody documented. Whether parts that no list names count
towards the announced bytes is open too, so both readings are on offer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ...wire import Headers
from .. import Answer, Call, answer_json, same
from ..forms import BadForm
from .contents import Limits
from .files import Files
from .next_steps import NextSteps
from .requests import Refusal, new_id
from .uploads import Uploads

__all__ = ["Limits", "OpenAISandbox"]


class OpenAISandbox(Uploads, Files, NextSteps):
    """Uploads, files, and just enough of what people do with a file next.

    ``api_key`` is the bearer key, and Azure's ``api-key`` as well.
    """

    name: ClassVar[str] = "openai"
    api: ClassVar[str] = "/v1"

    def announce(self) -> Mapping[str, str]:
        """Return the key."""
        return {"api_key": self.api_key}

    def environment(self) -> Mapping[str, str]:
        """Return what points the official SDK and our providers here, Azure's too."""
        return {
            "OPENAI_API_KEY": self.api_key,
            "OPENAI_BASE_URL": self.base_url,
            "AZURE_OPENAI_API_KEY": self.api_key,
            "AZURE_OPENAI_ENDPOINT": self.base,
            "OPENAI_API_VERSION": "2024-10-21",
        }

    def answer(self, call: Call) -> Answer:
        """Answer one call; every answer carries a request id."""
        self._forget_expired()
        try:
            answer = self._route(call)
        except (Refusal, BadForm) as error:
            no = error if isinstance(error, Refusal) else Refusal(400, str(error))
            answer = answer_json(
                no.status,
                {
                    "error": {
                        "message": no.message,
                        "type": "invalid_request_error",
                        "param": no.param,
                        "code": no.code,
                    }
                },
            )
        fields = {**answer.headers, "x-request-id": new_id("req_")}
        return Answer(answer.status, Headers(fields), answer.content, blob=answer.blob)

    def _route(self, call: Call) -> Answer:
        steps = tuple(call.path.strip("/").split("/"))
        azure = steps[0] == "openai"
        if azure:
            steps = steps[1:]
            if steps[:1] == ("v1",):
                steps = steps[1:]
            elif call.get("api-version") is None:
                raise Refusal(404, "Resource not found", code="404")
        elif steps[0] == "v1":
            steps = steps[1:]
        else:
            raise Refusal(404, f"Invalid URL ({call.method} {call.path})")
        self._authorize(call, azure)
        match (call.method, *steps):
            case ("POST", "uploads"):
                return self._create(call, azure)
            case ("POST", "uploads", upload_id, "parts"):
                return self._add_part(call, self._open(upload_id))
            case ("POST", "uploads", upload_id, "complete"):
                return self._complete(call, self._open(upload_id))
            case ("POST", "uploads", upload_id, "cancel"):
                return self._cancel(self._open(upload_id))
            case ("GET", "files"):
                return self._list_files(call)
            case ("POST", "files"):
                return self._create_file(call)
            case ("GET", "files", file_id):
                return self._ok("files.get", self._file(file_id)[0])
            case ("GET", "files", file_id, "content"):
                self.count("files.content")
                binary = Headers({"content-type": "application/octet-stream"})
                return Answer(200, binary, blob=self._file(file_id)[1])
            case ("DELETE", "files", file_id):
                self._file(file_id)
                del self._files[file_id]
                return self._ok("files.delete", {"id": file_id, "object": "file", "deleted": True})
            case ("POST", "fine_tuning" | "batches" | "vector_stores", *_):
                return self._use(call, steps)
            case ("GET", *_) if steps in self._made:
                return self._ok("get", self._made[steps])
            case ("GET", "fine_tuning", "jobs", _, "events"):
                return self._ok("events", {"object": "list", "data": [], "has_more": False})
        raise Refusal(404, f"Invalid URL ({call.method} {call.path})")

    def _authorize(self, call: Call, azure: bool) -> None:
        kind, _, given = call.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = ""
        if azure:
            given = call.headers.get("api-key", given)
        if not same(given.strip(), self.api_key):
            said = "Incorrect API key provided." if given else "You didn't provide an API key."
            raise Refusal(401, said, code="401" if azure else "invalid_api_key")
