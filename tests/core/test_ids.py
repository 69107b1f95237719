from __future__ import annotations

from core.ids import Prefix, format_id, new_id, parse_id


def test_the_public_form_of_an_id_is_parsed() -> None:
    value = new_id()

    assert parse_id(Prefix.JOB, format_id(Prefix.JOB, value)) == value


def test_ids_sort_by_the_time_of_their_creation() -> None:
    made = [new_id() for _ in range(1000)]

    assert made == sorted(made)


def test_a_malformed_id_parses_as_none() -> None:
    public = format_id(Prefix.KEY, new_id())

    for text in (
        "",
        "key_",
        public[:-1],
        public + "0",
        public.replace("key", "gen"),
        "key_" + "z" * 32,
        "key_0x" + "0" * 30,
        "key_ " + "1" * 31,
        "key_" + "1_" * 15 + "11",
        "key_" + "\N{ARABIC-INDIC DIGIT THREE}" * 32,
    ):
        assert parse_id(Prefix.KEY, text) is None
