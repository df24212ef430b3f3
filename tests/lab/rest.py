"""A small REST client that knows the envelope and fails loudly."""

import ssl
import time
from pathlib import Path
from typing import Any

import httpx

REGION = "region0"

_LONGEST_ABSENCE_SECONDS = 60
_IS_AWAY = "Running only, not Unknown"


class RestError(AssertionError):
    """The coordinator refused; `code` is its stable code."""

    def __init__(self, response: httpx.Response) -> None:
        body = response.json()
        self.status = response.status_code
        self.code = str(body.get("code"))
        self.message = str(body.get("message"))
        super().__init__(
            f"{response.request.method} {response.request.url.path}: {self.status} {self.code}: {self.message}"
        )


class Rest:
    """Requests with a token to one coordinator; the answers are the envelope's `data`."""

    def __init__(self, url: str, token: str, ca: Path) -> None:
        credentials = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=url,
            headers={"x-regionid": REGION, "Accept-Language": "en"} | credentials,
            verify=ssl.create_default_context(cafile=str(ca)),
            timeout=60,
            trust_env=False,
        )

    def is_ready(self) -> bool:
        """Whether the coordinator says that it can work."""
        return self._http.get("/readyz").status_code == httpx.codes.OK

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The whole response. RestError when it is not a success.

        A machine that stalls makes a node silent beyond its lease; what is refused for that alone is asked again.
        """
        deadline = time.monotonic() + _LONGEST_ABSENCE_SECONDS
        response = self._http.request(method, path, **arguments)
        while _IS_AWAY in response.text and time.monotonic() < deadline:
            time.sleep(0.5)
            response = self._http.request(method, path, **arguments)
        if response.status_code != httpx.codes.OK or response.json()["code"] != "Success":
            raise RestError(response)
        return response

    def get(self, path: str, **parameters: Any) -> Any:
        """The data of a resource."""
        return self.request("GET", path, params=parameters).json()["data"]

    def post(self, path: str, body: object = None) -> Any:
        """The data of the answer."""
        return self.request("POST", path, json=body).json()["data"]

    def put(self, path: str, body: object = None) -> Any:
        """The data of the answer."""
        return self.request("PUT", path, json=body).json()["data"]

    def delete(self, path: str, body: object = None) -> Any:
        """The data of the answer."""
        return self.request("DELETE", path, json=body).json()["data"]
