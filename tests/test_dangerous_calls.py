"""What none of our programs does with bytes: run them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import dramatiq
import pytest

from tests.support.modules import modules
from tests.support.paths import ROOT

#: What runs code that it reads, or writes such.
MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "yaml.load", "os.system"}


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def faults_of(source: str) -> set[str]:
    tree = ast.parse(source)
    return (set(called(tree)) & CALLS) | (set(imported(tree)) & MODULES)


def test_nothing_that_is_read_is_run() -> None:
    faults = {
        str(path.relative_to(ROOT)): found
        for path in modules()
        if (found := faults_of(path.read_text()))
    }

    assert faults == {}


@pytest.mark.parametrize(
    "source", ["import pickle", "from dill import loads", "eval('1')", "torch.load(f)"]
)
def test_the_scan_finds_each_dangerous_call(source: str) -> None:
    assert faults_of(source)


def test_messages_on_the_queue_are_json() -> None:
    assert isinstance(dramatiq.get_encoder(), dramatiq.JSONEncoder)


def test_no_program_sets_another_encoder() -> None:
    assert [path for path in modules() if "set_encoder" in path.read_text()] == []
