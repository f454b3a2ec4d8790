"""The studio's interface against its own OpenAPI, with requests that schemathesis makes up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.flows.judged import Judged
from tests.flows.studio_data import serving

OURS = {"x-cratedig-studio": "1"}

EXAMPLES = int(os.environ.get("CRATEDIG_API_EXAMPLES", "6"))
"""For each operation, of requests that the schema allows and of those that it does not."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

TRAINS = {"/api/train", "/api/train/readiness"}
"""They start processes that train for minutes; tests of their own ask for them."""


@pytest.fixture(scope="module")
def described(judged: Judged) -> Iterator[BaseSchema]:
    """The schema of a running studio with pictures, decisions and a model."""
    with serving(judged.root) as address:
        yield schemathesis.openapi.from_url(f"{address}/api/openapi.json")


# Threads that tests before it have left, such as Prefect's, draw from `random` while a case is drawn.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_ends_in_a_5xx_and_every_answer_is_as_described(
    described: BaseSchema, mode: GenerationMode
) -> None:
    asked = set()
    for result in described.get_all_operations():
        assert isinstance(result, Ok)  # our own schema is a valid one
        operation = result.ok()
        if operation.path in TRAINS:
            continue

        @seed(7)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def check(data: st.DataObject) -> None:
            case = data.draw(operation.as_strategy(generation_mode=mode))  # noqa: B023 - called in this turn
            case.call_and_validate(headers=OURS, checks=CHECKS)

        # Where nothing is asked for, nothing can be asked for wrongly.
        with suppress(Unsatisfiable):
            check()
            asked.add(operation.path)
    assert {"/api/decisions", "/api/images", "/api/queue"} <= asked
