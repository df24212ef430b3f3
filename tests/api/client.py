"""A caller of the REST API, as tests see it."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from fastapi.testclient import TestClient


@dataclass(frozen=True)
class Answer:
    """An answer in its envelope, which is checked on the way."""

    status: int
    code: str
    message: str
    data: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class Api:
    """Calls with one token, in one language."""

    client: TestClient
    token: str = ""
    region: str = "region0"
    language: str = "en"

    def call(
        self, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None, **more: Any
    ) -> Answer:
        """The answer, whatever it is."""
        sent = {"x-regionid": self.region, "accept-language": self.language, **(headers or {})}
        if self.token:
            sent.setdefault("authorization", f"Bearer {self.token}")
        if json is not None:
            more["json"] = json
        response = self.client.request(method, path, headers=sent, **more)
        body = response.json()
        assert set(body) == {"requestId", "code", "message", "data"}, body
        assert str(UUID(body["requestId"])) == response.headers["x-request-id"]
        return Answer(response.status_code, body["code"], body["message"], body["data"], dict(response.headers))

    def ok(self, method: str, path: str, json: Any = None, **more: Any) -> Any:
        """The data of a call that succeeds."""
        answer = self.call(method, path, json, **more)
        assert (answer.status, answer.code) == (200, "Success"), answer
        return answer.data

    def refused(self, method: str, path: str, json: Any = None, *, status: int = 400, **more: Any) -> Answer:
        """The answer to a call that fails with that status."""
        answer = self.call(method, path, json, **more)
        assert answer.status == status, answer
        assert answer.code != "Success"
        assert answer.data is None
        return answer

    def speaking(self, language: str) -> "Api":
        """The same caller in another language."""
        return replace(self, language=language)
