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
    out.
    -> {"saved": true, "id": "..."}, when it is on the disk
    409, by "code": already_judged, in another tab, say: show the next item; answers_changed, since the server was
    started with other flags: show this item again. 400: equal_answers, of which none can be better; same_edit, which
    changes nothing; empty_edit. 503: the disk is full, and nothing was saved.

POST /api/undo  {"id": "..."}
    Take back this annotator's last judgment, whose id this is; again, it does nothing.
    -> {"undone": true, "id": "..."}
    409 not_last: another came after it.
"""
