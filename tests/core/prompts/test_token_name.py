from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.prompts.token_name import bytes_of, name_bytes, name_id, name_special, without_mark


@given(st.binary(min_size=1, max_size=12))
def test_a_name_gives_the_bytes_of_its_token(data: bytes) -> None:
    assert bytes_of(name_bytes(data)) == data


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (name_bytes("né".encode()), "né"),
        (name_bytes("é".encode()[:1]), "bytes:\\xc3"),
        (name_bytes(b"\0"), "bytes:\\x00"),
        (name_bytes("\ufffd".encode()), "bytes:\\xef\\xbf\\xbd"),
        (name_special("<|im_end|>"), "<|im_end|>"),
        (name_id(49160), "token_id:49160"),
    ],
)
def test_names_have_the_form_of_other_servers(name: str, expected: str) -> None:
    assert without_mark(name) == expected


@pytest.mark.parametrize("name", [name_special("<|im_end|>"), name_id(49160)])
def test_a_special_token_adds_nothing_to_a_text(name: str) -> None:
    assert bytes_of(name) == b""


def test_a_partial_character_of_an_older_worker_has_no_bytes() -> None:
    assert bytes_of(" \ufffd") is None
