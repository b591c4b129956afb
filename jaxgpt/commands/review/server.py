"""The server of `review`: who is shown what, and what comes of a click.

An annotator's token is in the address of the page, `/?token=...`, and in the header `Authorization: Bearer ...` of all
other requests. Bodies and answers are JSON. An error is `{"error": {"message", "type", "param", "code"}}`. Nothing that
the server sends names a model, or depends on which one wrote which answer.

GET /
    The page.

POST /api/next  {}
    What this annotator is to judge now; the same again until it is judged.
    -> {"annotator": "anna",
        "item": {"id": "9f86d081884c", "prompt": "..." or "messages": [{"role", "content"}, ...], "topic": ""} or null,
        "is_done": whether nothing is left for this annotator (if not, and "item" is null: others are at it; ask again),
        "progress": {"judged": by this annotator, "left": at most for this annotator, "done": items that need no more
                     judgments, "items": all},
        "last": {"id", "item", "choice"} of this annotator's last judgment, or null}

GET /api/answers/{item}
    The two answers, in the order of this annotator's page: a stream of server-sent events, {"add": ["...", "..."]}, of
    which each has what is new of both, and then {"done": true, "shown": "5e88...", "cut": [false, true]}; "cut" says
    which ended because they were too long. With `Accept: application/json`, once they are written:
    -> {"answers": ["...", "..."], "shown": "5e88...", "cut": [false, true]}

POST /api/judgments  {"id": "...", "item": "...", "shown": "5e88...", "choice": 1, 2, "tie" or "skip",
                      "edit": null, "topic": "", "remark": "", "seconds": 3.2}
    "id" is the click's, up to 64 letters, digits, - and _, which the page makes up: sent again, it is saved once. With
    "edit", a text, the answer at the place "choice" is replaced by it. All but id, item, shown and choice may be left
    out; the topic is then the item's.
    -> {"saved": true, "id": "..."}, when it is on the disk
    409, by "code": already_judged, perhaps in another tab: show the next item; answers_changed, because the server was
    started with other flags: show this item again. 404 no_such_item: it was started with other prompts. 400:
    equal_answers, neither of which can be better; same_edit, which changes nothing; empty_edit. 503 not_saved: the
    disk is full.

POST /api/undo  {"id": "..."}
    Take back this annotator's last judgment, whose id this is; again, it does nothing. "was" is what it said, or null.
    -> {"undone": true, "id": "...", "was": {"item", "choice", "edit", "topic", "remark"}}
    409 not_last: another came after it.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxgpt import console
from jaxgpt.commands.review.answers import Answers, Pair, show
from jaxgpt.commands.review.assignment import digest, draw_order, index_judgments, next_item, progress
from jaxgpt.commands.review.clicks import make_record, parse_click, parse_id
from jaxgpt.commands.review.items import Item
from jaxgpt.commands.review.judgments import Judgments
from jaxgpt.errors import JaxgptError, UsageError
from jaxgpt.serving.guard import HttpError
from jaxgpt.serving.web import (
    EventStream,
    JSONResponse,
    Request,
    Response,
    Route,
    holder_of_token,
    page_response,
    read_json,
)

CLAIM_S = 1800.0  # how long an item waits for an annotator who has it on the page


class Review:
    """The state of a review, and the handlers of its requests. One task at a time changes it.

    Args:
      tokens: {token: annotator}.
      per_item: how many judgments an item needs.
      seed: of the order of answers.
      page: the HTML.
      clock: in seconds, which nobody sets.
    """

    def __init__(
        self,
        items: Sequence[Item],
        judgments: Judgments,
        answers: Answers,
        tokens: Mapping[str, str],
        per_item: int,
        seed: int,
        page: str,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._items, self._judgments, self._answers = {item.id: item for item in items}, judgments, answers
        self._tokens, self._per_item, self._seed, self._page, self._clock = tokens, per_item, seed, page, clock
        self._judged = index_judgments(judgments.records)
        self._claims: dict[str, tuple[str, float]] = {}  # by annotator: the item, and when the claim ends

    def routes(self) -> list[Route]:
        return [
            ("GET", "/", self.get_page),
            ("POST", "/api/next", self.post_next),
            ("GET", "/api/answers/{item}", self.get_answers),
            ("POST", "/api/judgments", self.post_judgment),
            ("POST", "/api/undo", self.post_undo),
        ]

    async def get_page(self, request: Request) -> Response:
        holder_of_token(request, self._tokens, in_url=True)
        return page_response(self._page)

    async def post_next(self, request: Request) -> Response:
        annotator = holder_of_token(request, self._tokens)
        claims = {name: item for name, (item, end) in self._claims.items() if end > self._clock()}
        id = next_item(annotator, self._items, self._per_item, self._judged, claims)
        if id is None:
            self._claims.pop(annotator, None)
        else:
            self._claims[annotator] = id, self._clock() + CLAIM_S
            self._answers.pair(self._items[id])
            self._prepare_after(annotator, id, claims)
        return JSONResponse({"annotator": annotator, "item": self._describe(id)} | self._progress(annotator))

    def _prepare_after(self, annotator: str, id: str, claims: Mapping[str, str]) -> None:
        """Have the answers to the annotator's next item but one written, while this one is judged."""
        later = [each for each in self._items if each != id]
        claims = {name: item for name, item in claims.items() if name != annotator}
        if (after := next_item(annotator, later, self._per_item, self._judged, claims)) is not None:
            self._answers.pair(self._items[after])

    def _describe(self, id: str | None) -> dict[str, Any] | None:
        return None if id is None else {"id": id, "topic": self._items[id].topic} | self._items[id].content

    def _progress(self, annotator: str) -> dict[str, Any]:
        counts = progress(annotator, self._items, self._per_item, self._judged)
        last = self._judgments.last_of(annotator)
        return {
            "is_done": not counts["left"],
            "progress": counts,
            "last": last and {name: last[name] for name in ("id", "item", "choice")},
        }

    async def get_answers(self, request: Request) -> Response:
        annotator = holder_of_token(request, self._tokens)
        item = self._find(request.path_params["item"])
        pair, order = self._answers.pair(item), draw_order(self._seed, annotator, item.id)

        def ends() -> dict[str, Any]:
            shown = [pair.texts[number] for number in order]
            return {"shown": digest(shown), "cut": [pair.cut[number] for number in order]}

        async def events() -> AsyncIterator[dict[str, Any]]:
            try:
                async for new in show(pair, order):
                    yield {"add": new}
            except JaxgptError as error:
                raise _unavailable(error) from None
            yield {"done": True} | ends()

        if "application/json" not in request.headers.get("accept", ""):
            return EventStream(events())
        await _wait(pair)
        return JSONResponse({"answers": [pair.texts[number] for number in order]} | ends())

    async def post_judgment(self, request: Request) -> Response:
        annotator = holder_of_token(request, self._tokens)
        click = parse_click(await read_json(request))
        before = self._judgments.find(click.id)
        if before and (before["annotator"], before["item"]) == (
            annotator,
            click.item,
        ):  # perhaps of an item that is gone
            return JSONResponse({"saved": True, "id": click.id})
        item = self._find(click.item)
        self._require_new(annotator, click.id, item)
        pair, order = self._answers.pair(item), draw_order(self._seed, annotator, item.id)
        if not self._judgments.find(click.id):
            await _wait(pair)
        if not self._judgments.find(click.id):  # no other request comes between here and the end
            self._require_new(annotator, click.id, item)
            if click.shown != digest([pair.texts[number] for number in order]):
                what = "the answers are no longer those that were shown; nothing was saved, look at these"
                raise HttpError(409, what, "answers_changed")
            with _report_full_disk():
                record = self._judgments.add(make_record(click, annotator, item, pair, order))
            self._judged[item.id][annotator] = record["choice"] != "skip"
        return JSONResponse({"saved": True, "id": click.id})

    def _require_new(self, annotator: str, id: str, item: Item) -> None:
        """Refuse a click on an item that was judged already, unless it is this very click that comes again."""
        before = self._judgments.find(id)
        if before and (before["annotator"], before["item"]) != (annotator, item.id):
            raise HttpError(409, "'id' is that of another click; make up another one", "id_taken", "id")
        if not before and annotator in self._judged.get(item.id, ()):
            what = "you have judged this one already, perhaps in another tab; nothing was changed"
            raise HttpError(409, what, "already_judged")

    async def post_undo(self, request: Request) -> Response:
        annotator = holder_of_token(request, self._tokens)
        id = parse_id(await read_json(request))
        record = self._judgments.find(id)
        was = None
        if record and record["annotator"] == annotator:
            if record is not self._judgments.last_of(annotator):
                raise HttpError(409, "you have judged another one since, perhaps in another tab", "not_last")
            with _report_full_disk():
                self._judgments.remove(record)
            del self._judged[record["item"]][annotator]
            self._claims.pop(annotator, None)  # what was undone comes first again
            was = {name: record[name] for name in ("item", "choice", "topic", "remark")}
            was["edit"] = record["chosen"] if record["edited"] else None
        return JSONResponse({"undone": True, "id": id, "was": was})

    def _find(self, id: str) -> Item:
        if id not in self._items:
            raise HttpError(404, "there is no such item now; ask for the next one", "no_such_item")
        return self._items[id]


async def _wait(pair: Pair) -> None:
    try:
        await pair.wait()
    except JaxgptError as error:
        raise _unavailable(error) from None


def _unavailable(error: Exception) -> HttpError:
    """What the page learns when a model can't write; the error itself may name the model."""
    console.note(f"an answer could not be written: {error}")
    return HttpError(503, "the answers could not be written; try again", "no_answers", headers={"retry-after": "2"})


@contextlib.contextmanager
def _report_full_disk() -> Iterator[None]:
    try:
        yield
    except (OSError, UsageError) as error:  # UsageError: the file was made a link
        is_ours = isinstance(error, UsageError)
        console.note(str(error) if is_ours else f"{error.filename or 'the judgments'}: {error.strerror or error}")
        raise HttpError(503, "the server can't write to its disk; nothing was saved or undone", "not_saved") from None
