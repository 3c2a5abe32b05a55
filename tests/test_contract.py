"""The API's document: complete, valid, true to its own examples, and checked in."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.conf import settings
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.contract import document, faults, resolved

WRITE_IT = "manage.py spectacular --file docs/openapi.yaml"


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path.removeprefix('/api/v1')}", operation


OPERATIONS = dict(operations())


def test_it_is_the_one_that_is_checked_in() -> None:
    text = (settings.BASE_DIR / "docs" / "openapi.yaml").read_text(encoding="utf-8")

    assert yaml.safe_load(text) == document(), WRITE_IT


def test_it_is_valid_openapi() -> None:
    made = document()

    assert made["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(made).validate()


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]

    assert len(set(names)) == len(names) == len(OPERATIONS)


def test_there_are_two_ways_to_authenticate() -> None:
    assert set(document()["components"]["securitySchemes"]) == {"apiKey", "accessToken"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_tells_all(name: str) -> None:
    operation = OPERATIONS[name]
    statuses = {"400", "401", "403", "404", "406", "429", "503"}
    if name.split()[0] in ("post", "put", "patch"):
        statuses |= {"409", "413", "415", "422"}

    assert operation["summary"]
    assert operation["tags"]
    assert statuses <= set(operation["responses"])
    assert any(status.startswith("2") for status in operation["responses"])
    is_public = name.startswith(("post /auth/", "post /webhooks/gateways/"))
    schemes = {scheme for each in operation.get("security", []) for scheme in each}
    assert schemes == (set() if is_public else {"apiKey", "accessToken"})


@pytest.mark.parametrize("name", OPERATIONS)
def test_its_examples_are_what_it_takes_and_gives(name: str) -> None:
    operation = OPERATIONS[name]
    contents = [operation["requestBody"]["content"]] if "requestBody" in operation else []
    answers = [resolved(answer) for answer in operation["responses"].values()]
    contents += [answer["content"] for answer in answers if "content" in answer]
    assert contents or "204" in operation["responses"]

    for content in contents:
        for media_type, media in content.items():
            if media_type.endswith("json"):
                assert media.get("examples"), f"no example of {media_type}"
            for example in media.get("examples", {}).values():
                assert faults(example["value"], media["schema"]) == []
