"""A client that holds every answer against the API's own document: each API test checks both."""

import functools
import itertools
import re
import threading
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator
from rest_framework.test import APIClient

_keys = itertools.count(1)


class ContractClient(APIClient):
    """
    `post_once` sends a fresh Idempotency-Key, or the one given.

    An answer whose status or body the document does not know fails the test.
    """

    def post_once(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        headers = {"Idempotency-Key": key or f"contract-key-{next(_keys)}"}
        return self.post(f"/api/v1{path}", body, headers=headers)

    def request(self, **environ: Any) -> Any:
        response = super().request(**environ)
        # A HEAD is a GET without its body.
        if environ["PATH_INFO"].startswith("/api/v1/") and environ["REQUEST_METHOD"] != "HEAD":
            _refuse_undocumented(environ["PATH_INFO"], environ["REQUEST_METHOD"], response)
        return response


def _refuse_undocumented(path: str, method: str, response: Any) -> None:
    paths = document()["paths"]
    match = next((p for p in _paths() if p[0].fullmatch(path)), None)
    if match is None or method.lower() not in paths[match[1]]:
        assert response.status_code in (404, 405), (method, path, response.status_code)
        return
    answers = paths[match[1]][method.lower()]["responses"]
    status = str(response.status_code)
    assert status in answers, f"{method} {match[1]} does not document {status}: {response.content}"
    answer = resolved(answers[status])
    for name, header in answer["headers"].items():
        if resolved(header).get("required"):
            assert name in response, f"{method} {match[1]}: {status} without {name}"
    if "content" not in answer:
        assert not response.content
        return
    media_type = response["Content-Type"]
    assert media_type in answer["content"], (media_type, list(answer["content"]))
    if not media_type.endswith("json"):
        # A file: that there is one.
        assert response.content
        return
    schema = answer["content"][media_type]["schema"]
    errors = faults(response.json(), schema, may_have_more=False)
    assert not errors, f"{method} {match[1]}: {errors[0]}"


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference into the document leads to; anything else as it is."""
    if "$ref" not in node:
        return node
    found = document()
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def faults(value: Any, schema: dict[str, Any], *, may_have_more: bool = True) -> list[str]:
    """
    Return what is wrong with the value by a schema of the document.

    Unless it `may_have_more`, a field that the document does not know is wrong too (S6).
    """
    validator = Draft202012Validator(
        {**(document() if may_have_more else _closed_document()), **schema},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(value)]


def document() -> dict[str, Any]:
    """Return the OpenAPI document as it is served."""
    # Its generator is not made for threads.
    with _generating:
        return _document()


_generating = threading.Lock()


@functools.cache
def _document() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


@functools.cache
def _closed_document() -> dict[str, Any]:
    """The document with the fields of objects being all the fields they have."""

    def closed(node: Any) -> Any:
        if isinstance(node, list):
            return [closed(each) for each in node]
        if not isinstance(node, dict):
            return node
        made = {name: closed(value) for name, value in node.items()}
        if isinstance(made.get("properties"), dict) and made.get("type") == "object":
            made.setdefault("additionalProperties", False)
        return made

    made: dict[str, Any] = closed(document())
    return made


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Each path's pattern, those without parameters first."""
    paths = sorted(document()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[0-9a-z_-]+", path)), path) for path in paths]
