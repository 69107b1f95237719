"""Schemas of the calls for the service itself: health, model, version."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, NonNegativeInt

from api.responses.base import CamelCaseSchema, PageSchema, Share, SnakeCaseSchema


class AliveSchema(SnakeCaseSchema):
    status: Literal["ok"]


class PartsSchema(SnakeCaseSchema):
    """The state of each part.

    Attributes:
        database: `read-only` means a standby, or a primary that accepts no changes; `full` means
            that its disk is full.
        redis: `read-only` means a replica, or a server that cannot write to its disk or to its
            replicas; `full` means that its memory is full.
        workers: `unknown` while Redis is not ok.
    """

    database: Literal["ok", "away", "read-only", "full"]
    redis: Literal["ok", "away", "read-only", "full"]
    workers: Literal["ok", "none", "unknown"]


class ReadinessSchema(SnakeCaseSchema):
    """Whether the service accepts work, and the state of each part."""

    status: Literal["ready", "not ready"]
    parts: PartsSchema


class ModelSchema(CamelCaseSchema):
    """A model, with the sums over its ready workers.

    Attributes:
        context_length: the greatest number of tokens of prompt and completion together.
        running: generations in the engines.
        waiting: generations that workers hold and have not started.
        cache_use: the used share of the fullest worker's attention cache.
        steps: forward passes since the workers started.
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
    """The name of the service and the paths of its documentation.

    Attributes:
        openai_base_url: the path of the calls for OpenAI's clients.
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
