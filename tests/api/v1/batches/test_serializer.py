"""The faults of a file, as a rejected batch stores them."""

from __future__ import annotations

import pytest

from api.v1.batches.serializer import serialize_errors
from core.errors import FieldFault, InvalidRequest


def refusal(param: str) -> InvalidRequest:
    return InvalidRequest("the file is not valid", fields=[FieldFault(param, "it is wrong")])


def test_a_fault_names_its_line_and_its_field() -> None:
    (error,) = serialize_errors(refusal("line 7.body.model"))

    assert (error["line"], error["param"]) == (7, "body.model")


@pytest.mark.parametrize("param", ("model", "line", "line ².model", "line 7²"))
def test_a_fault_elsewhere_has_no_line(param: str) -> None:
    (error,) = serialize_errors(refusal(param))

    assert (error["line"], error["param"]) == (None, param)
