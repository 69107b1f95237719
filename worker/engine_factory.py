"""Builds the engine that the settings choose."""

from __future__ import annotations

from core.config.settings import EngineKind, Settings
from core.prompts.tokenizer import PromptTokenizer
from worker.engine.echo import EchoEngine
from worker.engine.protocol import Engine


def build_engine(settings: Settings, tokenizer: PromptTokenizer) -> Engine:
    """Return the engine that the settings choose; it loads nothing before `start`."""
    if settings.engine is EngineKind.ECHO:
        return EchoEngine(
            tokens_per_second=settings.echo_tokens_per_second,
            context_length=tokenizer.context_length,
        )
    # torch takes seconds to import: import it only in a worker that runs a model.
    from worker.engine.hf.engine import HFEngine

    return HFEngine.from_settings(settings)
