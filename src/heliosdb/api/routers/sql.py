"""The SQL box by HTTP: a statement is run as the caller's role, and answered with its rows as texts.

What always holds: whose statement it is was confirmed before its text is read, and is asked anew before it
is run.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from heliosdb.api.box import LARGEST_STATEMENT
from heliosdb.api.database import Right
from heliosdb.api.guard import BodyRoute, IdentityHere, needs, services
from heliosdb.api.problems import Problem

router = APIRouter(route_class=BodyRoute, tags=["sql"])


class StatementBody(BaseModel):
    """What is to be run."""

    model_config = ConfigDict(extra="forbid")

    statement: Annotated[str, Field(max_length=LARGEST_STATEMENT)]


class SqlColumn(BaseModel):
    """A column of the answer."""

    name: str
    type: str


class SqlAnswer(BaseModel):
    """The answer: values are texts as the server writes them, or null."""

    columns: list[SqlColumn]
    rows: list[list[str | None]]
    truncated: bool
    command: str
    notices: list[str]


@router.post("/sql", response_model=SqlAnswer)
@needs(Right.KNOWN)
async def run_statement(request: Request, identity: IdentityHere, body: StatementBody) -> Any:
    """Run one statement, SQL or FEDERATED, as the role of the call, in a transaction of its own."""
    ours = services(request)
    if ours.box is None:
        raise Problem(404, "Statements are not run here: sql_box is off.")
    with ours.statements.one_more(identity.key):
        return await ours.box.run(identity, body.statement, request.state.gone)
