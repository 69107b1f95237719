import pytest

from core.text.integers import bounded_integer


@pytest.mark.parametrize(("text", "number"), (("1", 1), ("200", 200), ("007", 7)))
def test_digits_within_the_bounds_are_a_number(text: str, number: int) -> None:
    assert bounded_integer(text, least=1, most=200) == number


@pytest.mark.parametrize(
    "text", ("", "0", "201", "0001", "-1", "+1", " 1", "1.0", "1e2", "1_0", "²", "٣", "9" * 5000)
)
def test_anything_else_is_none(text: str) -> None:
    assert bounded_integer(text, least=1, most=200) is None


def test_without_bounds_a_number_has_at_most_nine_digits() -> None:
    assert bounded_integer("0") == 0
    assert bounded_integer("999999999") == 999_999_999
    assert bounded_integer("0999999999") is None
