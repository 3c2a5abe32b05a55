"""A client that holds every answer against the API's own document: each API test checks both."""

import functools
import itertools
import re
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
        if environ["PATH_INFO"].startswith("/api/v1/"):
            _refuse_undocumented(environ["PATH_INFO"], environ["REQUEST_METHOD"], response)
        return response


def _refuse_undocumented(path: str, method: str, response: Any) -> None:
    document = _document()
    match = next((p for p in _paths() if p[0].fullmatch(path)), None)
    if match is None or method.lower() not in document["paths"][match[1]]:
        assert response.status_code in (404, 405), (method, path, response.status_code)
        return
    answers = document["paths"][match[1]][method.lower()]["responses"]
    status = str(response.status_code)
    assert status in answers, f"{method} {match[1]} does not document {status}: {response.content}"
    if "content" not in answers[status]:
        assert not response.content
        return
    [(media_type, content)] = answers[status]["content"].items()
    assert response["Content-Type"] == media_type, (response["Content-Type"], media_type)
    schema = {"$ref": f"#/paths/{_pointer(match[1])}/{method.lower()}/responses/{status}"}
    schema = {"$ref": f"{schema['$ref']}/content/{_pointer(media_type)}/schema"}
    errors = list(Draft202012Validator({**document, **schema}).iter_errors(response.json()))
    assert not errors, f"{method} {match[1]}: {errors[0].json_path}: {errors[0].message}"
    assert content


@functools.cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return document


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Each path's pattern, those without parameters first."""
    paths = sorted(_document()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", r"[0-9a-f-]{36}", path)), path) for path in paths]


def _pointer(part: str) -> str:
    """Return a part of a JSON pointer within a URI fragment."""
    return part.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
