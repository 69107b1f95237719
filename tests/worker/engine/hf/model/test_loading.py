"""Loading a model reads weights from safetensors only and runs no code from its directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import Qwen2ForCausalLM

from worker.engine.hf.model.loading import load_model


def test_a_model_is_loaded_from_safetensors(model: Qwen2ForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)

    loaded = load_model(str(tmp_path))

    assert loaded.vocab_size == model.config.vocab_size


def test_weights_in_a_pickle_are_refused(model: Qwen2ForCausalLM, tmp_path: Path) -> None:
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    with pytest.raises(OSError, match="safetensors"):
        load_model(str(tmp_path))


def test_code_beside_a_model_is_not_run(model: Qwen2ForCausalLM, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    model.save_pretrained(tmp_path)
    (tmp_path / "hostile.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    config = json.loads((tmp_path / "config.json").read_text())
    code = {"AutoConfig": "hostile.C", "AutoModelForCausalLM": "hostile.M"}
    for model_type in ("qwen2", "unknown"):
        changed = {**config, "auto_map": code, "model_type": model_type}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        if model_type == "qwen2":  # the library has this type and runs its own code
            load_model(str(tmp_path))
        else:
            with pytest.raises(ValueError, match="trust_remote_code"):
                load_model(str(tmp_path))

    assert not trace.exists()
