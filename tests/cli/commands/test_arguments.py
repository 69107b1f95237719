"""An option before the action of a command holds for the action too."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module

import pytest

from cli.main import _COMMANDS, _parser
from cloud.__main__ import _parser as cloud_parser


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def overridden(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options before an action that a default of the action would replace."""
    own = {action.dest for action in parser._actions if action.option_strings} - {"help"}
    found = [
        f"{below.prog} {action.dest}"
        for below in actions(parser)
        for action in below._actions
        if action.dest in own and action.default is not argparse.SUPPRESS
    ]
    return found + [name for below in actions(parser) for name in overridden(below)]


@pytest.mark.parametrize("name", _COMMANDS)
def test_no_action_replaces_an_option_before_it(name: str) -> None:
    import_module(_COMMANDS[name][0])

    assert overridden(_parser([name])) == []


def test_no_action_of_the_cloud_command_replaces_an_option() -> None:
    assert overridden(cloud_parser()) == []


def test_a_time_out_before_verify_holds_for_verify() -> None:
    parser = _parser(["backup"])

    assert parser.parse_args(["backup", "--timeout", "60", "verify", "d"]).timeout == 60
    assert parser.parse_args(["backup", "verify", "--timeout", "7", "d"]).timeout == 7
    assert parser.parse_args(["backup", "verify", "d"]).timeout > 60


@pytest.mark.parametrize("text", ("0", "-1", "1.5", "²", "٣", "9" * 5000))
@pytest.mark.parametrize(
    ("option", "message"),
    (
        ("up --api-port", "must be a whole number from 1 to 65535"),
        ("up --workers", "must be a whole number of at least 1"),
        ("backup --to d --keep", "must be a whole number from 1 to 100000"),
        ("demo-data --users", "must be a whole number from 1 to 10000000"),
        ("plan --users", "must be a whole number of at least 1"),
    ),
)
def test_a_number_that_is_none_gives_the_option_s_own_message(
    option: str, message: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = option.split(" ")

    with pytest.raises(SystemExit):
        _parser(command).parse_args([*command, text])

    assert capsys.readouterr().err.splitlines()[-1].endswith(message)
