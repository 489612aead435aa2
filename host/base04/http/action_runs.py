"""Runs of actions that are not plain: dry, in the background, or with an ``Idempotency-Key``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from base04.actions.idempotency import Answer, RequestKey
from base04.actions.injection import ManagerMissing
from base04.actions.worker_pool import PoolFull
from base04.executions.record import shown
from base04.http.json_response import JSONAnswer
from base04.http.problems import problem_of
from base04.http.run_options import RunOptions
from base04_hookspecs.action_discovery import Action
from base04_hookspecs.context import RequestContext
from base04_hookspecs.errors import ActionBusy, Base04Error, ManagerUnavailable, RateLimited

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.generation import Generation

_KEPT_HEADERS: Final = ("content-type", "location", "retry-after", "preference-applied")
_JSON: Final = "application/json"


class ActionRuns:
    """Answers requests to run actions whose callers were admitted, for one generation."""

    def __init__(self, generation: Generation, app: AppManager) -> None:
        self._pipeline, self._app = generation.pipeline, app

    async def answer(
        self, action: Action, args: Mapping[str, Any] | None, context: RequestContext, options: RunOptions, root: str
    ) -> Response:
        """Answer a request; ``root`` is the path under which the host is served."""
        if options.dry_run:
            filled = action.validate({} if args is None else args)
            if action.conceal is not None:
                filled = action.conceal(filled)
            return JSONAnswer({"action": action.name, "dry_run": True, "arguments": filled})
        if options.key is None:
            return await self._run(action, args, context, options, root)
        action.validate({} if args is None else args)  # what is not acceptable uses no key up
        request = RequestKey.of(context, options.key, args)

        async def run() -> Answer:
            return await self._answered(action, args, context, options, root)

        answer = await self._app.idempotency.once(request, run, again=action.policy.idempotent)
        headers = {**answer.headers, **({"idempotent-replayed": "true"} if answer.replayed else {})}
        return Response(answer.body, answer.status, headers)

    async def _answered(
        self, action: Action, args: Mapping[str, Any] | None, context: RequestContext, options: RunOptions, root: str
    ) -> Answer:
        """Run an action, and return what its caller is answered, errors too."""
        keep = True
        try:
            response = await self._run(action, args, context, options, root)
        except (Base04Error, HTTPException) as error:
            found = problem_of(error, context.request_id)
            if found is None:
                raise
            response, keep = (
                found,
                not _may_be_tried_again(action, error, begun=not self._in_background(action, options)),
            )
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        return Answer(response.status_code, headers, bytes(response.body), keep)

    async def _run(
        self, action: Action, args: Mapping[str, Any] | None, context: RequestContext, options: RunOptions, root: str
    ) -> Response:
        if not self._in_background(action, options):
            return Response(await self._pipeline.run_admitted(action, args, context), media_type=_JSON)
        executions = self._app.executions
        row = await executions.submit(action, args, context)
        applied = {"preference-applied": "respond-async"} if options.respond_async else {}
        if options.wait:
            done = await executions.ended(row["id"], options.wait)
            if done is not None:
                return _of_ended(done, applied)
            row = await executions.get(row["id"])
        location = {"location": f"{root}/executions/{row['id']}", "retry-after": "1", **applied}
        return JSONAnswer(shown(row), 202, headers=location)

    def _in_background(self, action: Action, options: RunOptions) -> bool:
        """Tell whether it is answered before it has run; a preference is only followed where it can be."""
        return action.policy.background or (options.respond_async and self._app.executions.executor is not None)


def _of_ended(row: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """Return the answer that a caller who waited would have had."""
    if row["status"] == "succeeded":
        return Response(row["result"].encode(), 200, dict(headers), _JSON)
    error = row["error"] or {"title": "It was cancelled", "detail": "It was cancelled."}
    status = error.get("status", 500)
    return Response(orjson.dumps({**error, "status": status}), status, dict(headers), "application/problem+json")


def _may_be_tried_again(action: Action, error: Exception, *, begun: bool) -> bool:
    """Tell whether a request that failed so may run again under its key: it has not begun, or that does no harm."""
    if isinstance(error, PoolFull | ManagerMissing):
        return True
    if isinstance(error, ActionBusy) and error.action == action.name:
        return True
    return isinstance(error, ManagerUnavailable | RateLimited) and (action.policy.idempotent or not begun)
