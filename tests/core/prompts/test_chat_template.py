"""Chat templates are found in any file of a model, for text and for parts as content."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config.settings import PromptMode
from core.errors import InvalidRequest, SettingsError
from core.generation import Generation
from core.prompts.tokenizer import PromptTokenizer

SOURCE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
NAMED = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": SOURCE}]
CHAT = Generation.model_validate({"messages": [{"role": "user", "content": "hello"}]})

Copy = Callable[..., str]


@pytest.fixture
def copy_model(model_dir: Path, tmp_path: Path) -> Copy:
    """Copies the small model without weights and template, with files added or changed."""

    def make(**files: Any) -> str:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(model_dir / name, tmp_path / name)
        for name, content in files.items():
            path = tmp_path / name.replace("__", ".")
            if isinstance(content, dict):
                old = json.loads(path.read_text()) if path.exists() else {}
                content = json.dumps({**old, **content})
            path.write_text(content)
        return str(tmp_path)

    return make


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template__jinja": SOURCE},
        {"chat_template__json": {"chat_template": SOURCE}},
        {"tokenizer_config__json": {"chat_template": SOURCE}},
        {"tokenizer_config__json": {"chat_template": NAMED}},
        {"chat_template__json": {"chat_template": NAMED}},
    ],
    ids=["jinja", "json", "config", "named", "named in json"],
)
def test_the_template_is_found_in_every_file(copy_model: Copy, files: dict[str, Any]) -> None:
    tokenizer = PromptTokenizer.load(copy_model(**files))

    assert tokenizer.text_of(CHAT).text == "[user]hello[assistant]"
    assert tokenizer.text_of(Generation(prompt="hello")).text == "[user]hello[assistant]"


def test_a_template_that_takes_parts_gets_parts(copy_model: Copy) -> None:
    tokenizer = PromptTokenizer.load(copy_model(chat_template__jinja=PARTS))

    assert tokenizer.text_of(CHAT).text == "[user]hello"


def test_a_chat_that_the_template_renders_as_no_text_is_refused(copy_model: Copy) -> None:
    tokenizer = PromptTokenizer.load(copy_model(chat_template__jinja="{% if tools %}a{% endif %}"))

    with pytest.raises(InvalidRequest, match="makes no text of these messages"):
        tokenizer.text_of(CHAT)


def test_a_model_without_a_template_is_logged_when_it_is_loaded(
    copy_model: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="core.prompts.tokenizer"):
        tokenizer = PromptTokenizer.load(copy_model(), PromptMode.CHAT)

    assert "has no chat template: `messages` are refused" in caplog.text
    assert tokenizer.text_of(Generation(prompt="hello")).text == "hello"


def test_the_context_of_a_multimodal_model_is_that_of_its_text(copy_model: Copy) -> None:
    config = json.dumps({"text_config": {"max_position_embeddings": 4096}})

    assert PromptTokenizer.load(copy_model(config__json=config)).context_length == 4096


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"config__json": "{"}, "config.json of {path}: it is not valid JSON: "),
        ({"config__json": "[]"}, "config.json of {path}: it must be a JSON object"),
        ({"config__json": "{}"}, "config.json of {path}: it says no max_position_embeddings"),
        ({"tokenizer__json": "{}"}, "tokenizer.json of {path}: it is no tokenizer: "),
        ({"chat_template__jinja": "a\n{% if %}"}, "the chat template is wrong in line 2: "),
        ({"chat_template__jinja": "\n"}, "the chat template is empty"),
    ],
)
def test_a_faulty_file_is_reported_in_one_line(
    copy_model: Copy, files: dict[str, str], fault: str
) -> None:
    path = copy_model(**files)

    with pytest.raises(SettingsError) as caught:
        PromptTokenizer.load(path)

    assert len(caught.value.faults) == 1 and "\n" not in caught.value.faults[0]
    assert caught.value.faults[0].startswith("MODEL_PATH: " + fault.format(path=path))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(copy_model: Copy, name: str) -> None:
    path = copy_model()
    (Path(path) / name).unlink()

    with pytest.raises(SettingsError, match=f"{name} of .*: there is no such file"):
        PromptTokenizer.load(path)
