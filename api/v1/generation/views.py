"""`POST /v1/completions` and `POST /v1/chat/completions`.

They wait for the completion as long as the client does: OpenAI's clients do not know a 202.
"""

from __future__ import annotations

from contextlib import ExitStack

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from api.generation.admission import AdmittedJob
from api.generation.event_stream import stream_admitted
from api.generation.outcomes import interrupted
from api.generation.pipeline import (
    admit_request,
    authenticate_and_parse,
    confirm_key_on_error,
    hold_connection_slot,
    wait_for_completion,
)
from api.http.disconnect import client_closed_response
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import IDEMPOTENCY_KEY
from api.openapi.refusals import CANCELLED, NOT_ADMITTED, NOT_COMPLETED
from api.openapi.response import FROM_CACHE, RATE_LIMITS, REPLAYED, json_or_stream_response
from api.runtime.user_slots import SlotKind
from api.services import Services, services
from api.v1.generation.body import GenerationBody
from api.v1.generation.chat_body import ChatBody
from api.v1.generation.chat_response import ChatResponse
from api.v1.generation.completion_body import CompletionBody
from api.v1.generation.completion_response import CompletionResponse
from api.v1.generation.response import OpenAIResponse
from api.v1.generation.schemas import ChatChunk, ChatCompletion, CompletionChunk, OpenAICompletion
from models.accounts.key_cache import RequestKey

blueprint = Blueprint("v1_generate", __name__, url_prefix="/v1")

#: OpenAI's default, for requests and models without a temperature.
DEFAULT_TEMPERATURE = 1.0


@blueprint.post("/completions")
@described(
    CallerKind.KEY,
    {
        200: json_or_stream_response(
            OpenAICompletion, CompletionChunk, *RATE_LIMITS, REPLAYED, FROM_CACHE
        )
    },
    *NOT_ADMITTED,
    *NOT_COMPLETED,
    CANCELLED,
    body=CompletionBody,
    parameters=(IDEMPOTENCY_KEY,),
)
def complete() -> ResponseReturnValue:
    """Complete a prompt as it is."""
    return _generate(*authenticate_and_parse(CompletionBody), CompletionResponse)


@blueprint.post("/chat/completions")
@described(
    CallerKind.KEY,
    {200: json_or_stream_response(ChatCompletion, ChatChunk, *RATE_LIMITS, REPLAYED, FROM_CACHE)},
    *NOT_ADMITTED,
    *NOT_COMPLETED,
    CANCELLED,
    body=ChatBody,
    parameters=(IDEMPOTENCY_KEY,),
)
def chat() -> ResponseReturnValue:
    """Complete a chat with the assistant's next turn."""
    return _generate(*authenticate_and_parse(ChatBody), ChatResponse)


def default_temperature(services: Services) -> float:
    """Return the temperature of requests without one: the model's default, or OpenAI's."""
    temperature = services.prompts.tokenizer.defaults.get("temperature")
    return DEFAULT_TEMPERATURE if temperature is None else temperature


def _generate(
    key: RequestKey, body: GenerationBody, kind: type[OpenAIResponse]
) -> ResponseReturnValue:
    with confirm_key_on_error(key):
        generation = body.to_generation(
            most_tokens=services().settings.max_tokens_limit,
            temperature=default_temperature(services()),
        )
    may_shorten = body.requested_max_tokens[1] is None
    with ExitStack() as held:
        slot_kind = SlotKind.STREAM if generation.stream else SlotKind.WAIT
        held.enter_context(hold_connection_slot(key, slot_kind))
        admitted = admit_request(key, generation, may_shorten=may_shorten, names=body.names)
        completion = kind(
            admitted.job,
            has_logprobs=generation.logprobs is not None,
            has_usage_chunk=body.has_usage_chunk,
        )
        if not generation.stream:
            return _wait(admitted, completion)
        return stream_admitted(
            admitted,
            completion.delta_chunks,
            completion.end_chunks,
            slot=held.pop_all(),
            is_resumable=False,
        )


def _wait(admitted: AdmittedJob, completion: OpenAIResponse) -> ResponseReturnValue:
    job = wait_for_completion(admitted, services().settings.stream_seconds)
    if job is None:
        return client_closed_response()
    if not job.is_final:
        if admitted.is_cancelled_on_disconnect:
            services().jobs.cancellation.abandon(job.id)
        raise interrupted()
    response = jsonify(completion.to_object(job))
    response.headers.update(admitted.headers)
    return response
