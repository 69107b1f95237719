"""Which engine this worker runs."""

from __future__ import annotations

from core.config.settings import EngineKind, Settings
from core.prompts.tokenizer import PromptTokenizer
from worker.engine.echo import EchoEngine
from worker.engine.protocol import Engine


def build_engine(settings: Settings, tokenizer: PromptTokenizer) -> Engine:
    """Return the engine that the settings name; nothing is loaded before its start."""
    if settings.engine is EngineKind.ECHO:
        return EchoEngine(
            tokens_per_second=settings.echo_tokens_per_second,
            context_length=tokenizer.context_length,
        )
    # torch takes seconds to import: only the worker that runs a model pays for it.
    from worker.engine.hf.engine import HFEngine

    return HFEngine.from_settings(settings)
