"""Validates the lines of a batch like single requests, before the database is written.

Memory stays flat: valid lines wait on disk, as the rows that are inserted later.
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

#: Faults that one response lists.
MAX_REPORTED_FAULTS = 100
#: Characters of one fault: it repeats the name of an unknown field, which may be long.
MAX_FAULT_LENGTH = 500
#: Lines whose prompts are counted together, and the characters of their texts.
CHUNK_LINES = 256
CHUNK_CHARACTERS = 256 * 1024


@dataclass(slots=True)
class ValidatedLines:
    """The outcome of the validation.

    Attributes:
        rows: a file of JSON, one row of `models.batches.lines.insert_lines` in each line.
        faults: of the first `MAX_REPORTED_FAULTS` invalid lines.
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
        """Return the error that lists the faults of the lines."""
        if not self.total:
            return InvalidRequest("the file has no lines", param="file")
        return InvalidRequest(
            f"{self.rejected} of {self.total} lines are not valid",
            param="file",
            fields=self.faults,
        )


@dataclass(frozen=True, slots=True)
class LineRules:
    """The rules for the lines of a batch.

    Attributes:
        context_length: tokens that prompt and completion of a line may have together.
        monthly_limit: tokens a month of their key.
    """

    settings: Settings
    tokenizer: PromptTokenizer
    counter: PromptCounter
    context_length: int
    monthly_limit: int | None = None


class LineValidator:
    """Validates the lines of one batch; `checked` is the outcome of those read so far."""

    def __init__(self, rules: LineRules, rows: IO[bytes], yielder: Yielder) -> None:
        self._rules = rules
        self._yielder = yielder
        self._seen: dict[bytes, int] = {}
        self.checked = ValidatedLines(rows)

    def run(self, lines: Iterable[BatchLine]) -> Iterator[int]:
        """Validate all lines; yield the number of accepted lines after each chunk.

        Raises `InvalidRequest` if there are too many lines.
        """
        chunk: list[tuple[BatchLine, Generation, PromptText]] = []
        characters = 0
        for line in lines:
            self._yielder.yield_if_due()
            try:
                generation = self._check(line)
                with prefix_fields(line.names):
                    text = self._rules.tokenizer.text_of(generation)
            except ApiError as error:
                self._reject(line, first_fault(error))
                continue
            chunk.append((line, generation, text))
            characters += len(text.text)
            if len(chunk) >= CHUNK_LINES or characters >= CHUNK_CHARACTERS:
                self._accept_chunk(chunk)
                chunk, characters = [], 0
                yield self.checked.accepted
        if chunk:
            self._accept_chunk(chunk)
        yield self.checked.accepted

    def _check(self, line: BatchLine) -> Generation:
        if line.generation is None:
            fault = line.fault or FieldFault("", "the line cannot be parsed")
            raise InvalidRequest(fault.message, param=fault.param)
        if line.custom_id is not None:
            before = self._seen.setdefault(_digest(line.custom_id), line.number)
            if before != line.number:
                raise InvalidRequest(
                    f"custom_id was already used in line {before}", param="custom_id"
                )
        generation = line.generation
        if line.may_shorten:
            generation = shorten_to_result(generation)
        with prefix_fields(line.names):
            check_generation(self._rules.settings, generation, line.names)
        return generation

    def _accept_chunk(self, chunk: list[tuple[BatchLine, Generation, PromptText]]) -> None:
        context = self._rules.context_length
        limits = [] if self._rules.monthly_limit is None else [self._rules.monthly_limit]
        texts = [text for _, _, text in chunk]
        counts = self._rules.counter.count_texts(texts, most=context)
        for (line, generation, _), counted in zip(chunk, counts, strict=True):
            self._yielder.yield_if_due()
            if line.may_shorten and counted is not None:
                generation = shorten_to_fit(generation, counted, context, limits)
            try:
                with prefix_fields(line.names):
                    prompt_tokens = check_context(context, generation, counted)
            except ApiError as error:
                self._reject(line, first_fault(error))
            else:
                self._accept(line, generation, prompt_tokens)

    def _accept(self, line: BatchLine, generation: Generation, prompt_tokens: int) -> None:
        self.checked.accepted += 1
        self.checked.prompt_tokens += prompt_tokens
        self._write(line, {"request": generation.to_row(), "prompt_tokens": prompt_tokens})

    def _reject(self, line: BatchLine, fault: FieldFault) -> None:
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
        """Say whether no earlier line has this custom id, which identifies results."""
        return self._seen.setdefault(_digest(custom_id), number) == number


def _digest(custom_id: str) -> bytes:
    # Not the ids themselves: those of one file may have 100 MB.
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()


def _clean(text: str) -> str:
    """Return text that PostgreSQL can store, at most `MAX_FAULT_LENGTH` characters."""
    return text.replace("\x00", "�")[:MAX_FAULT_LENGTH]
