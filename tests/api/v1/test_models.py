from __future__ import annotations

import openai as package
import pytest
from openai import OpenAI

from tests.support.http.openai_client import model_of
from tests.support.service import Service


def test_the_list_has_the_model(service: Service, openai: OpenAI) -> None:
    models = openai.models.list()

    (model,) = models.data
    assert (model.id, model.object, model.owned_by) == (model_of(service), "model", "bountycoder")
    assert model.created > 0
    assert model.to_dict()["max_model_len"] == 8192


def test_the_model_is_found_by_its_name_and_no_other_is(service: Service, openai: OpenAI) -> None:
    assert openai.models.retrieve(model_of(service)).id == model_of(service)
    for other in ("gpt-4", "org/model"):
        with pytest.raises(package.NotFoundError) as caught:
            openai.models.retrieve(other)
        assert caught.value.code == "model_not_found"


def test_the_list_of_models_needs_credentials(service: Service) -> None:
    assert service.call("GET", "/v1/models").status_code == 401
    assert service.call("GET", f"/v1/models/{model_of(service)}").status_code == 401
