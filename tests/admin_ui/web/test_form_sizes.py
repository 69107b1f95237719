"""Only forms that bring a prompt or a file may be large: others are not even taken apart."""

from __future__ import annotations

from flask.testing import FlaskClient

from tests.support.browser.pages import csrf, sign_in


def test_a_large_form_without_a_prompt_is_not_taken_apart(browser: FlaskClient) -> None:
    fields = "&".join(f"a{number}=1" for number in range(20_000))

    answer = browser.post("/sign-in", data=fields, content_type="application/x-www-form-urlencoded")

    assert answer.status_code == 413
    assert "Too large" in answer.text


def test_a_form_with_a_prompt_may_be_as_large_as_a_request(browser: FlaskClient) -> None:
    sign_in(browser)
    prompt = "aA1 " * 100_000

    answer = browser.post(
        "/playground/code", data={"prompt": prompt, "csrf_token": csrf(browser.get("/settings"))}
    )

    assert answer.status_code == 200
    assert prompt.strip() in answer.text
