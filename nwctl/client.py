"""The coordinator's REST API as the CLI needs it: envelope, errors, bounded retries, idempotency keys."""

import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

import httpx

from nwctl.config import Settings
from nwctl.error import ApiError, CoordinatorUnreachable, CredentialsMissing, UsageError

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.25
CONNECT_TIMEOUT_SECONDS = 5.0
# Longer than the slowest call that answers in the foreground: a command through a guest's agent.
ANSWER_TIMEOUT_SECONDS = 60.0
# The coordinator digests an uploaded image before it answers.
UPLOAD_TIMEOUT_SECONDS = 3600.0
# A stream shows every 15 s that it lives.
STREAM_TIMEOUT_SECONDS = 45.0
# So much of a file is sent at a time.
PIECE_BYTES = 16 << 20
# What comes is written in pieces of this size.
CHUNK_BYTES = 1 << 20
LONGEST_PAUSE_SECONDS = 30.0
BUSY_STATUSES = (429, 503)

Query = Mapping[str, str | int | bool | None]


@dataclass(frozen=True)
class Answer:
    """A successful answer: the envelope's `data`, and the ids of the operations that the call started."""

    data: Any
    operation_ids: tuple[str, ...]


class Client:
    """Calls one coordinator with one token; retries what cannot take effect twice."""

    def __init__(
        self,
        settings: Settings,
        *,
        attempts: int = ATTEMPTS,
        timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
    ) -> None:
        if not settings.endpoint:
            raise UsageError("no endpoint is known: run `nwctl login --endpoint URL`, or set NWCTL_ENDPOINT")
        if not settings.token:
            raise CredentialsMissing(f"not logged in to {settings.endpoint}: run `nwctl login`, or set NWCTL_TOKEN")
        self._attempts = attempts
        self._http = httpx.Client(
            base_url=settings.endpoint,
            headers=headers_of(settings),
            timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
            verify=trust_of(settings.ca_file),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, query: Query | None = None) -> Answer:
        """Reads."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._call(self._http.build_request("GET", path, params=given), repeatable=True)

    def create(self, path: str, body: Any) -> Answer:
        """POSTs under an idempotency key, so that a retry cannot create twice."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        return self._call(self._http.build_request("POST", path, json=body, headers=key), repeatable=True)

    def ask(self, path: str, body: Any) -> Answer:
        """POSTs a question, which changes nothing."""
        return self._call(self._http.build_request("POST", path, json=body), repeatable=True)

    def change(self, method: str, path: str, body: Any = None) -> Answer:
        """PUTs, POSTs or DELETEs; repeated only while the coordinator cannot have seen it.

        Also for new secrets, which the coordinator does not keep to answer them again.
        """
        content = {} if body is None else {"json": body}
        return self._call(self._http.build_request(method, path, **content))

    def make_file(self, path: str, body: Any) -> tuple[bytes, Mapping[str, str]]:
        """POSTs, and is answered a bare file that exists nowhere else, with the headers; repeated as in `change`."""
        response = self._send(self._http.build_request("POST", path, json=body))
        if not response.is_success:
            decode(response)
        return response.content, response.headers

    def upload(self, path: str, file: BinaryIO, size_bytes: int, on_progress: Callable[[int], object]) -> Answer:
        """Sends what the coordinator does not have yet of the file's bytes, in pieces; tells how far that is.

        A broken connection is followed by another, for as long as something comes through.
        """
        failures, pause_seconds = 0, FIRST_PAUSE_SECONDS
        while True:
            try:
                offset = self._ask_offset(path)
                on_progress(offset)
                if offset >= size_bytes > 0:
                    return self._send_piece(path, offset, size_bytes, b"")
                file.seek(offset)
                answer = self._send_piece(path, offset, size_bytes, file.read(PIECE_BYTES))
                failures, pause_seconds = 0, FIRST_PAUSE_SECONDS
            except CoordinatorUnreachable:
                failures += 1
                if failures >= self._attempts:
                    raise
                time.sleep(pause_seconds)
                pause_seconds *= 2
                continue
            if offset + PIECE_BYTES >= size_bytes:
                return answer

    def download(
        self, path: str, file: BinaryIO, tag: str, size_bytes: int, on_progress: Callable[[int], object]
    ) -> None:
        """Appends to `file`, opened for that, what it does not have yet of a file with this ETag and size.

        A broken connection is followed by another, for as long as something comes through.
        """
        failures, pause_seconds = 0, FIRST_PAUSE_SECONDS
        while (before := file.tell()) < size_bytes:
            try:
                self._append(path, file, tag, on_progress)
            except httpx.TransportError as error:
                failures = 0 if file.tell() > before else failures + 1
                if failures >= self._attempts:
                    raise CoordinatorUnreachable(explain(error, self._http.base_url)) from error
                time.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS) if failures else FIRST_PAUSE_SECONDS
            else:
                if file.tell() < size_bytes:
                    raise CoordinatorUnreachable(f"{path}: the file ended after {file.tell()} of {size_bytes} bytes")

    def _append(self, path: str, file: BinaryIO, tag: str, on_progress: Callable[[int], object]) -> None:
        headers = {"Range": f"bytes={file.tell()}-", "If-Range": tag} if file.tell() else {}
        with self._http.stream("GET", path, headers=headers) as response:
            if not response.is_success:
                response.read()
                decode(response)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                file.truncate(0)
                file.seek(0)
            for chunk in response.iter_bytes(CHUNK_BYTES):
                file.write(chunk)
                on_progress(file.tell())

    def _ask_offset(self, path: str) -> int:
        response = self._send(self._http.build_request("HEAD", path), attempts=1)
        if not response.is_success:
            decode(response)
        return int(response.headers.get("upload-offset", 0))

    def _send_piece(self, path: str, offset: int, size_bytes: int, piece: bytes) -> Answer:
        request = self._http.build_request(
            "PATCH",
            path,
            content=piece,
            headers={
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": str(offset),
                "Upload-Length": str(size_bytes),
            },
            timeout=httpx.Timeout(UPLOAD_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        )
        return self._call(request, attempts=1)

    def stream(self, path: str, query: Query) -> Iterator[str]:
        """Reads line by line what goes on until the coordinator ends it; CoordinatorUnreachable when it breaks off."""
        given = {name: value for name, value in query.items() if value is not None}
        timeout = httpx.Timeout(STREAM_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        try:
            with self._http.stream("GET", path, params=given, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    decode(response)
                yield from response.iter_lines()
        except httpx.TransportError as error:
            raise CoordinatorUnreachable(explain(error, self._http.base_url)) from error

    def _call(self, request: httpx.Request, *, repeatable: bool = False, attempts: int | None = None) -> Answer:
        return decode(self._send(request, repeatable=repeatable, attempts=attempts))

    def _send(self, request: httpx.Request, *, repeatable: bool = False, attempts: int | None = None) -> httpx.Response:
        """Sends, and repeats a bounded number of times what failed on the way or met a busy coordinator."""
        pause_seconds = FIRST_PAUSE_SECONDS
        for remaining in reversed(range(attempts or self._attempts)):
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                if not remaining or not worth_repeating(error, repeatable):
                    raise CoordinatorUnreachable(explain(error, self._http.base_url)) from error
            else:
                if not remaining or not repeatable or response.status_code not in BUSY_STATUSES:
                    return response
            time.sleep(pause_seconds)
            pause_seconds *= 2
        raise AssertionError("the last attempt returns or raises")


def headers_of(settings: Settings) -> dict[str, str]:
    """What every call carries."""
    region = {"x-regionid": settings.region} if settings.region else {}
    return {"Authorization": f"Bearer {settings.token}", "Accept-Language": settings.lang, **region}


def trust_of(ca_file: str) -> ssl.SSLContext:
    """The certificate authorities to trust: those in `ca_file` alone, or the system's."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise UsageError(f"cannot use the CA file {ca_file}: {error}") from error


def worth_repeating(error: httpx.TransportError, repeatable: bool) -> bool:
    """Whether another attempt may help and cannot do the work twice: a failed connection carried nothing."""
    if is_distrust(error):
        return False
    return repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def is_distrust(error: httpx.TransportError) -> bool:
    """Whether the connection failed on the certificate (httpx keeps that in the text alone)."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def explain(error: httpx.TransportError, url: httpx.URL) -> str:
    """Says for people why `url` cannot be reached, and what to do where that is known."""
    hint = "; is --ca-file (NWCTL_CA_FILE) the coordinator's CA?" if is_distrust(error) else ""
    return f"cannot reach {url}: {error or type(error).__name__}{hint}"


def decode(response: httpx.Response) -> Answer:
    """Opens the envelope; anything but success raises ApiError, also what is no envelope at all."""
    try:
        envelope = response.json()
        code, data = envelope["code"], envelope.get("data")
    except (ValueError, KeyError, TypeError, AttributeError):
        phrase = f"the answer is not the coordinator's: {response.reason_phrase or 'no reason given'}"
        request_id = response.headers.get("x-request-id", "")
        raise ApiError(response.status_code, f"HTTP {response.status_code}", phrase, request_id) from None
    if code != "Success":
        raise ApiError(response.status_code, code, envelope.get("message", ""), envelope.get("requestId", ""))
    operations = response.headers.get("x-operation-id", "").split(",")
    return Answer(data, tuple(operation.strip() for operation in operations if operation.strip()))
