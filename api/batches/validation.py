"""Checks the lines of a batch as single requests are checked, before anything is written to the
database. Memory stays flat: what was checked waits on disk, as the rows that it will be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from api.batches.line_reader import BatchLine, first_fault, prefix_fields
from api.generation.validation import (
    check_context,
    check_generation,
    shorten_to_fit,
    shorten_to_result,
)
from api.runtime.prompt_count import PromptCounter
from core.concurrency.greenlets import Yielder
from core.config.settings import Settings
from core.errors import ApiError, FieldFault, InvalidRequest
from core.generation import Generation
from core.ids import new_id
from core.prompts.tokenizer import PromptText, PromptTokenizer

#: Faults that an answer tells.
MAX_REPORTED_FAULTS = 100
#: A fault repeats the name of an unknown field, which may be long.
MAX_FAULT_LENGTH = 500
#: Lines whose prompts are counted together, and how long their texts may be.
CHUNK_LINES = 256
CHUNK_CHARACTERS = 256 * 1024


@dataclass(slots=True)
class ValidatedLines:
    """What became of the lines.

    Attributes:
        rows: a file of JSON, one row of `models.batches.lines.insert_lines` in each line.
        faults: of the first lines that cannot be taken.
    """

    rows: IO[bytes]
    accepted: int = 0
    rejected: int = 0
    prompt_tokens: int = 0
    faults: list[FieldFault] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.accepted + self.rejected

    def refusal(self) -> InvalidRequest:
        """Return the error that tells what is wrong with the lines."""
        if not self.total:
            return InvalidRequest("the file has no lines", param="file")
        return InvalidRequest(
            f"{self.rejected} of {self.total} lines cannot be taken",
            param="file",
            fields=self.faults,
        )


@dataclass(frozen=True, slots=True)
class LineRules:
    """What the lines of a batch must keep.

    Attributes:
        context_length: tokens that prompt and answer of a line may have together.
        monthly_limit: tokens a month of their key.
    """

    settings: Settings
    tokenizer: PromptTokenizer
    counter: PromptCounter
    context_length: int
    monthly_limit: int | None = None


class LineValidator:
    """The checks of one batch's lines; `checked` is what became of those that it has seen."""

    def __init__(self, terms: LineRules, rows: IO[bytes], yielder: Yielder) -> None:
        self._terms = terms
        self._yielder = yielder
        self._seen: dict[bytes, int] = {}
        self.checked = ValidatedLines(rows)

    def run(self, lines: Iterable[BatchLine]) -> Iterator[int]:
        """Check all lines; yields now and then how many were taken.

        Raises `InvalidRequest` if there are too many.
        """
        chunk: list[tuple[BatchLine, Generation, PromptText]] = []
        characters = 0
        for line in lines:
            self._yielder.yield_if_due()
            try:
                generation = self._check(line)
                with prefix_fields(line.names):
                    text = self._terms.tokenizer.text_of(generation)
            except ApiError as error:
                self._refuse(line, first_fault(error))
                continue
            chunk.append((line, generation, text))
            characters += len(text.text)
            if len(chunk) >= CHUNK_LINES or characters >= CHUNK_CHARACTERS:
                self._take_chunk(chunk)
                chunk, characters = [], 0
                yield self.checked.accepted
        if chunk:
            self._take_chunk(chunk)
        yield self.checked.accepted

    def _check(self, line: BatchLine) -> Generation:
        if line.generation is None:
            fault = line.fault or FieldFault("", "it cannot be read")
            raise InvalidRequest(fault.message, param=fault.param)
        if line.custom_id is not None:
            before = self._seen.setdefault(_digest(line.custom_id), line.number)
            if before != line.number:
                raise InvalidRequest(
                    f"custom_id is that of line {before} already", param="custom_id"
                )
        generation = line.generation
        if line.may_shorten:
            generation = shorten_to_result(generation)
        with prefix_fields(line.names):
            check_generation(self._terms.settings, generation, line.names)
        return generation

    def _take_chunk(self, chunk: list[tuple[BatchLine, Generation, PromptText]]) -> None:
        context = self._terms.context_length
        limits = [] if self._terms.monthly_limit is None else [self._terms.monthly_limit]
        texts = [text for _, _, text in chunk]
        counts = self._terms.counter.count_texts(texts, most=context)
        for (line, generation, _), counted in zip(chunk, counts, strict=True):
            self._yielder.yield_if_due()
            if line.may_shorten and counted is not None:
                generation = shorten_to_fit(generation, counted, context, limits)
            try:
                with prefix_fields(line.names):
                    prompt_tokens = check_context(context, generation, counted)
            except ApiError as error:
                self._refuse(line, first_fault(error))
            else:
                self._take(line, generation, prompt_tokens)

    def _take(self, line: BatchLine, generation: Generation, prompt_tokens: int) -> None:
        self.checked.accepted += 1
        self.checked.prompt_tokens += prompt_tokens
        self._write(line, {"request": generation.to_row(), "prompt_tokens": prompt_tokens})

    def _refuse(self, line: BatchLine, fault: FieldFault) -> None:
        message = _clean(fault.message)
        self.checked.rejected += 1
        if len(self.checked.faults) < MAX_REPORTED_FAULTS:
            name = f"line {line.number}"
            param = f"{name}.{_clean(fault.param)}" if fault.param else name
            self.checked.faults.append(FieldFault(param, f"{name}: {message}"))
        self._write(line, {"error": {"code": InvalidRequest.code, "message": message}})

    def _write(self, line: BatchLine, values: dict[str, object]) -> None:
        row = {"id": new_id().hex, "line": line.number, **values}
        if line.custom_id is not None and (
            "error" not in values or self._is_first(line.custom_id, line.number)
        ):
            row["custom_id"] = line.custom_id
        self.checked.rows.write(json.dumps(row).encode() + b"\n")

    def _is_first(self, custom_id: str, number: int) -> bool:
        """Say whether no line before has this name: results are told apart by it."""
        return self._seen.setdefault(_digest(custom_id), number) == number


def _digest(custom_id: str) -> bytes:
    # Not the names themselves: those of one file may have 100 MB.
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()


def _clean(text: str) -> str:
    """Return what PostgreSQL can hold and an answer should."""
    return text.replace("\x00", "�")[:MAX_FAULT_LENGTH]
