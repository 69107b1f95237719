"""An HTTP client of the service's batch API. Each call is one attempt: `Retrying` repeats it."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProxyError, SSLError
from urllib3.exceptions import TimeoutError as HTTPTimeout
from urllib3.response import BaseHTTPResponse

from cli.batch.credentials import Credentials
from cli.batch.exit_codes import Away, Failure, UsageFault
from cli.batch.responses import BatchView, failure_of, read_json

USER_AGENT = "bountycoder-batch/1"
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
#: Timeout of a last request when no time is left.
SHORTEST_SECONDS = 0.1
#: The service validates each line of a file before it responds.
SUBMIT_SECONDS = 600.0
CHUNK_BYTES = 128 * 1024
#: The client reads no more of an error response.
MAX_ERROR_BYTES = 1024 * 1024


class BatchClient:
    """Call the service with one API key; reuse connections between calls.

    At the start of a call, `time_left` bounds how long it waits for each piece of the response,
    in seconds.
    """

    def __init__(
        self, credentials: Credentials, *, time_left: Callable[[], float | None] = lambda: None
    ) -> None:
        self._time_left = time_left
        self._base = credentials.url
        self._headers = {
            "Authorization": f"Bearer {credentials.key}",
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
        }
        self._proxy = _find_proxy(credentials.url)
        self._pool = _open_pool(credentials.url, self._proxy)

    def close(self) -> None:
        self._pool.clear()

    def create(
        self,
        file: BinaryIO,
        size: int,
        options: Mapping[str, str],
        *,
        idempotency_key: str,
        sent: Callable[[int], None],
    ) -> BatchView:
        """Upload a file from its beginning.

        Args:
            size: the file's size in bytes.
            sent: called with the number of bytes sent so far.
        """
        file.seek(0)
        headers = {
            "Content-Type": "application/jsonl",
            "Content-Length": str(size),
            "Idempotency-Key": idempotency_key,
        }
        data = self._read(
            "POST",
            _path(options),
            headers=headers,
            body=_upload(file, sent),
            read_seconds=SUBMIT_SECONDS,
        )
        return BatchView.read(read_json(data))

    def get(self, batch_id: str) -> BatchView:
        return BatchView.read(read_json(self._read("GET", _path({}, batch_id))))

    def page(self, *, status: str | None, limit: int, after: str | None) -> dict[str, Any]:
        """Return one page of the list, newest first."""
        given = {"status": status, "limit": str(limit), "after": after}
        query = {name: value for name, value in given.items() if value is not None}
        page = read_json(self._read("GET", _path(query)))
        return page if isinstance(page, dict) else {}

    def cancel(self, batch_id: str) -> BatchView:
        data = self._read("POST", _path({}, batch_id, "cancel"))
        return BatchView.read(read_json(data))

    def retry(self, batch_id: str, *, idempotency_key: str) -> BatchView:
        data = self._read(
            "POST",
            _path({}, batch_id, "retry"),
            headers={"Idempotency-Key": idempotency_key},
            read_seconds=SUBMIT_SECONDS,
        )
        return BatchView.read(read_json(data))

    @contextmanager
    def results(
        self, batch_id: str, *, status: str | None, after: int
    ) -> Iterator[Iterator[bytes]]:
        """Yield the results after line `after`, in chunks as they arrive."""
        query = {"after": str(after)} if after else {}
        if status is not None:
            query["status"] = status
        response = self._open("GET", _path(query, batch_id, "results"))
        with closing(response):
            yield self._pieces(response)

    def _read(self, method: str, path: str, **options: Any) -> bytes:
        with closing(self._open(method, path, **options)) as response, self._translating_errors():
            return response.read()

    def _open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Iterator[bytes] | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> BaseHTTPResponse:
        """Return a 2xx response, which the caller reads and closes.

        Raises:
            Failure: the service responded with another status, or cannot be reached.
        """
        with self._translating_errors():
            response = self._pool.request(
                method,
                self._base + path,
                body=body,
                headers={**self._headers, **(headers or {})},
                timeout=urllib3.Timeout(
                    connect=self._at_most(CONNECT_SECONDS), read=self._at_most(read_seconds)
                ),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            if 200 <= response.status < 300:
                return response
            with closing(response):
                data = response.read(MAX_ERROR_BYTES)
            raise failure_of(response.status, response.headers, data)

    def _pieces(self, response: BaseHTTPResponse) -> Iterator[bytes]:
        """Yield data as it arrives, so that nothing is lost when the connection breaks."""
        while True:
            with self._translating_errors():
                piece = response.read1(CHUNK_BYTES)
            if not piece:
                return
            yield piece

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        """Translate the libraries' connection errors into a `Failure`."""
        try:
            yield
        except (HTTPError, ConnectionError, TimeoutError) as error:
            raise _failure(error, self._proxy) from None

    def _at_most(self, seconds: float) -> float:
        left = self._time_left()
        return seconds if left is None else min(seconds, max(left, SHORTEST_SECONDS))


def _upload(file: BinaryIO, sent: Callable[[int], None]) -> Iterator[bytes]:
    count = 0
    while piece := file.read(CHUNK_BYTES):
        yield piece
        count += len(piece)
        sent(count)


def _path(query: Mapping[str, str], *parts: str) -> str:
    path = "/".join(["/api/llm/batches", *(quote(part, safe="") for part in parts)])
    return f"{path}?{urlencode(query)}" if query else path


def _find_proxy(url: str) -> str | None:
    """Return the environment's proxy for this URL, if any.

    Raises:
        UsageFault: the proxy is not an HTTP proxy.
    """
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https") or not urlsplit(proxy).hostname:
        raise UsageFault(f"{parts.scheme}_proxy must be such as http://proxy.example.com:3128")
    return proxy


def _open_pool(url: str, proxy: str | None) -> urllib3.PoolManager:
    options: dict[str, Any] = {"maxsize": 1, "blocksize": CHUNK_BYTES}
    if urlsplit(url).scheme == "https":
        options["ssl_context"] = ssl.create_default_context()
    if proxy is None:
        return urllib3.PoolManager(**options)
    at = urlsplit(proxy)
    headers = None
    if at.username is not None:
        who = f"{unquote(at.username)}:{unquote(at.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=who)
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


def _failure(error: Exception, proxy: str | None) -> Failure:
    """Return the failure in our own words: messages of libraries contain object names."""
    if isinstance(error, ProxyError) and proxy is not None:
        where = urlsplit(proxy).netloc.rpartition("@")[2]
        return Away(f"the proxy {where} cannot be reached, or refuses the connection")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Away(
                f"the service's certificate is not valid: {cause.verify_message}", may_pass=False
            )
        if isinstance(cause, socket.gaierror):
            return Away("the service's name has no address")
        args = [argument for argument in cause.args if isinstance(argument, BaseException)]
        cause = cause.__cause__ or cause.__context__ or (args[0] if args else None)
    if isinstance(error, SSLError):
        return Away("the TLS handshake with the service failed", may_pass=False)
    if isinstance(error, NewConnectionError):
        return Away("the service cannot be reached")
    if isinstance(error, HTTPTimeout | TimeoutError):
        return Away("the service does not respond in time")
    return Away("the connection to the service broke")
