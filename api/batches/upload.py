"""Receives a file, as the body or in a form, onto disk while it is counted and hashed.

Memory holds only one piece at a time. The temporary file has no name, so that a crash leaves none.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from flask import Request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.formparser import MultiPartParser

from api.http.content_encoding import MAGIC_BYTES, check_content_encoding, compression_of
from core.concurrency.greenlets import Yielder, at_most
from core.config.settings import Settings
from core.errors import (
    FieldFault,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)

JSONL_TYPES = (
    "application/jsonl",
    "application/x-ndjson",
    "application/x-jsonlines",
    "application/json",
    "application/octet-stream",
    "text/plain",
)
FORM_TYPE = "multipart/form-data"
FILE_FIELD = "file"
PIECE_BYTES = 64 * 1024
#: Bytes of a file of unknown length that are charged at once.
CHARGED_BYTES = 1024 * 1024
#: Most bytes and parts of a form beside its file.
FORM_BYTES = 256 * 1024
FORM_PARTS = 32


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A received file with its options.

    Attributes:
        size: bytes.
        filename: `None` unless the file came in a form with one.
        options: of the query and the form.
    """

    file: IO[bytes]
    size: int
    sha256: str
    filename: str | None
    options: dict[str, str]


class _Spool:
    """A temporary file that counts and hashes the bytes that are written to it."""

    def __init__(self, max_bytes: int, filename: str | None) -> None:
        self.filename = filename
        self.size = 0
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the upload
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.size > self._max_bytes:
            raise PayloadTooLarge(f"the file has more than {self._max_bytes} bytes")
        self._hash.update(data)
        return self.file.write(data)

    def seek(self, position: int) -> int:
        return self.file.seek(position)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class _TimedBody:
    """The body of a request, read with time limits for each piece and for the whole."""

    def __init__(
        self,
        stream: Any,
        *,
        seconds: float,
        stall_seconds: float,
        charge: Callable[[int], None] | None,
    ) -> None:
        self._stream = stream
        self._charge = charge
        self._uncharged = 0
        self._deadline = time.monotonic() + seconds
        self._stall_seconds = stall_seconds
        self._yielder = Yielder()

    def read(self, size: int) -> bytes:
        self._yielder.yield_if_due()  # reads of a fast client's pieces never wait
        remaining = self._deadline - time.monotonic()
        try:
            if remaining <= 0:
                raise TimeoutError
            with at_most(min(remaining, self._stall_seconds)):
                piece = bytes(self._stream.read(size))
        except TimeoutError:
            # The rest of the file must not be parsed as the next request.
            raise RequestTimeout(
                "the file did not arrive in time", headers={"Connection": "close"}
            ) from None
        self._uncharged += len(piece)
        if self._charge is not None and self._uncharged >= CHARGED_BYTES:
            self._charge(self._uncharged)
            self._uncharged = 0
        return piece


@contextmanager
def receive_file(
    request: Request, settings: Settings, *, charge: Callable[[int], None]
) -> Iterator[ReceivedFile]:
    """Receive the file of a request, and hold it while the block runs.

    Args:
        charge: called with numbers of bytes: with all before they arrive if the request has a
            `Content-Length`. An error that it raises ends the upload.

    Raises:
        UnsupportedMediaType: the media type or the content encoding is not supported.
        RequestTimeout: the file did not arrive in time.
        PayloadTooLarge: the file is larger than `MAX_BATCH_BYTES`.
        InvalidRequest: there is not exactly one file, it is compressed, or an option came twice.
    """
    if request.mimetype not in (*JSONL_TYPES, FORM_TYPE):
        raise UnsupportedMediaType(
            f"send the file as {JSONL_TYPES[0]} (curl: -H 'Content-Type: {JSONL_TYPES[0]}' "
            f"--data-binary @FILE), or in a form as {FORM_TYPE} (curl: -F file=@FILE)"
        )
    check_content_encoding(request)
    most = settings.max_batch_bytes
    request.max_content_length = most + FORM_BYTES
    if request.content_length:
        charge(request.content_length)
    arrival = _TimedBody(
        request.stream,
        seconds=settings.upload_seconds,
        stall_seconds=settings.upload_stall_seconds,
        charge=charge if request.content_length is None else None,
    )
    spools: list[_Spool] = []

    def open_spool(*args: Any, **details: Any) -> _Spool:
        if spools:
            raise InvalidRequest("send one file", param=FILE_FIELD)
        spools.append(_Spool(most, details.get("filename")))
        return spools[0]

    try:
        if request.mimetype == FORM_TYPE:
            fields = _read_form(request, arrival, open_spool)
        else:
            fields = []
            _read_all(request, arrival, open_spool())
        options = _collect_options([*request.args.items(multi=True), *fields])
        spool = spools[0]
        _reject_compressed(spool.file)
        yield ReceivedFile(spool.file, spool.size, spool.sha256, spool.filename, options)
    finally:
        for spool in spools:
            spool.file.close()


def _reject_compressed(file: IO[bytes]) -> None:
    file.seek(0)
    packing = compression_of(file.read(MAGIC_BYTES))
    file.seek(0)
    if packing is not None:
        raise InvalidRequest(
            f"the file is compressed ({packing}): send it uncompressed", param=FILE_FIELD
        )


def _read_all(request: Request, arrival: _TimedBody, spool: _Spool) -> None:
    size = 0
    while piece := arrival.read(PIECE_BYTES):
        spool.write(piece)
        size += len(piece)
    if request.content_length is not None and size < request.content_length:
        raise ClientDisconnected


def _read_form(request: Request, arrival: _TimedBody, open_spool: Any) -> list[tuple[str, str]]:
    boundary = request.mimetype_params.get("boundary", "")
    parser = MultiPartParser(
        stream_factory=open_spool,
        max_form_memory_size=FORM_BYTES,
        max_form_parts=FORM_PARTS,
        buffer_size=PIECE_BYTES,
    )
    try:
        if not boundary:
            raise ValueError
        form, files = parser.parse(
            arrival,  # type: ignore[arg-type]  # it only reads
            boundary.encode("ascii"),
            request.content_length,
        )
    except ValueError:
        raise InvalidRequest("the form is malformed") from None
    names = list(files)
    if names != [FILE_FIELD]:
        text = f"send one file, as the part {FILE_FIELD} with a filename"
        raise InvalidRequest(text, param=names[0] if names else FILE_FIELD)
    return list(form.items(multi=True))


def _collect_options(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in given:
        if name in options:
            fault = FieldFault(name, f"{name} is given twice")
            raise InvalidRequest(fault.message, param=name, fields=[fault])
        options[name] = value
    return options
