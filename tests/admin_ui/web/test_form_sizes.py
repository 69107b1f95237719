"""Only forms with a prompt or a file may be large; other large forms are not parsed."""

from __future__ import annotations

from flask.testing import FlaskClient

from tests.support.browser.pages import csrf, sign_in


def test_a_large_form_without_a_prompt_is_not_parsed(pages_client: FlaskClient) -> None:
    fields = "&".join(f"a{number}=1" for number in range(20_000))

    response = pages_client.post(
        "/sign-in", data=fields, content_type="application/x-www-form-urlencoded"
    )

    assert response.status_code == 413
    assert "Too large" in response.text


def test_a_form_with_a_prompt_may_be_as_large_as_a_request(pages_client: FlaskClient) -> None:
    sign_in(pages_client)
    prompt = "aA1 " * 100_000

    response = pages_client.post(
        "/playground/code",
        data={"prompt": prompt, "csrf_token": csrf(pages_client.get("/settings"))},
    )

    assert response.status_code == 200
    assert prompt.strip() in response.text
