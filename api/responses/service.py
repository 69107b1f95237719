"""The service itself: is it there, which model has it."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, NonNegativeInt

from api.responses.base import CamelCaseSchema, PageSchema, Share, SnakeCaseSchema


class AliveSchema(SnakeCaseSchema):
    status: Literal["ok"]


class PartsSchema(SnakeCaseSchema):
    """The state of each part.

    Attributes:
        database: `read-only` is a standby, or a primary that takes no changes; `full` has no room
            on its disk.
        redis: `read-only` is a replica, or one that cannot write to its disk or to its replicas;
            `full` has used up its memory.
        workers: `unknown` while Redis is not ok.
    """

    database: Literal["ok", "away", "read-only", "full"]
    redis: Literal["ok", "away", "read-only", "full"]
    workers: Literal["ok", "none", "unknown"]


class ReadinessSchema(SnakeCaseSchema):
    """Whether work can be taken, and each part."""

    status: Literal["ready", "not ready"]
    parts: PartsSchema


class ModelSchema(CamelCaseSchema):
    """A model with what its ready workers say, summed up.

    Attributes:
        context_length: tokens of prompt and answer together.
        running: generations in the engines.
        waiting: generations that workers hold and have not begun.
        cache_use: the used share of the fullest worker's attention cache.
        steps: forward passes since the workers began.
    """

    id: str
    object: Literal["model"]
    context_length: NonNegativeInt
    ready_workers: NonNegativeInt
    running: NonNegativeInt
    waiting: NonNegativeInt
    cache_use: Share
    steps: NonNegativeInt
    tokens_per_second: float


class ModelPageSchema(PageSchema):
    data: list[ModelSchema]


class IndexSchema(CamelCaseSchema):
    """What is where.

    Attributes:
        openai_base_url: below it are the calls for OpenAI's clients.
    """

    service: Literal["BountyCoder"]
    version: str
    documentation: str
    openapi: str
    openai_base_url: str


class VersionSchema(SnakeCaseSchema):
    version: str


class DocumentSchema(SnakeCaseSchema):
    """A document of OpenAPI 3.1."""

    model_config = ConfigDict(extra="allow")

    openapi: Literal["3.1.0"]
