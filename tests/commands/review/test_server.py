"""The server of `review`, in this process, with writers whose answers are known."""

import asyncio
import collections
import datetime
import json
import random

import pytest

pytest.importorskip("starlette")

from jaxgpt.commands.review import clicks
from jaxgpt.commands.review.answers import Answers
from jaxgpt.commands.review.assignment import draw_order
from jaxgpt.commands.review.items import load_items
from jaxgpt.commands.review.judgments import Judgments
from jaxgpt.commands.review.server import CLAIM_S, Review
from jaxgpt.errors import JaxgptError
from jaxgpt.reports.judgments import undecided_path
from jaxgpt.serving.web import make_app
from tests.support.asgi import ask_async

MODELS = [{"name": "brass", "fingerprint": "1" * 16}, {"name": "copper", "fingerprint": "2" * 16}]
TOKENS = {"token-of-anna-0123": "anna", "token-of-ben-01234": "ben"}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Host:
    """A server that may be restarted, and what its pages would know."""

    def __init__(self, tmp_path, prompts, per_item=1, seed=0, same=(), tokens=TOKENS):
        self.out, self.per_item, self.seed, self.same = tmp_path / "prefs.jsonl", per_item, seed, same
        self.tokens = tokens
        path = tmp_path / "prompts.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in prompts))
        self.items, self.clock, self.fails, self.salt = load_items(path), Clock(), 0, ""
        self.start()

    def start(self):
        self.judgments = Judgments(self.out)
        answers = Answers([self.writer(0), self.writer(1)], MODELS, {"top_k": 5}, self.seed, self.judgments.records)
        options = self.tokens, self.per_item, self.seed, "<p>page</p>", self.clock
        review = Review(self.items, self.judgments, answers, *options)
        self.app = make_app(review.routes(), frozenset({"localhost"}))

    def restart(self):
        self.judgments.close()
        self.start()

    def writer(self, number):
        async def write(item, seed, add):
            if self.fails:
                self.fails -= 1
                raise JaxgptError("brass: out of memory")
            text = f" {item.prompt or ''}{self.salt}: {'same' if item.prompt in self.same else number}"
            for character in text:
                add(character)
                await asyncio.sleep(0)
            return number == 1

        return write

    async def ask(self, path, body=None, who="anna", **headers):
        token = {name: token for token, name in self.tokens.items()}[who]
        headers = {"Authorization": f"Bearer {token}"} | headers
        method = "GET" if body is None else "POST"
        answer = await ask_async(self.app, method, path, b"" if body is None else body, headers)
        return answer.status, answer.json()

    async def next(self, who="anna"):
        status, content = await self.ask("/api/next", {}, who)
        assert status == 200
        return content

    async def answers(self, item, who="anna"):
        status, content = await self.ask(f"/api/answers/{item}", None, who, accept="application/json")
        assert status == 200
        return content

    async def click(self, id, choice, who="anna", item=None, **more):
        item = item or (await self.next(who))["item"]["id"]
        shown = (await self.answers(item, who))["shown"]
        body = {"id": id, "item": item, "shown": shown, "choice": choice} | more
        return await self.ask("/api/judgments", body, who)

    def lines(self):
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@pytest.fixture
def host(tmp_path):
    hosts = []

    def start(prompts=6, **options):
        prompts = [{"prompt": f"p{n}"} for n in range(prompts)] if isinstance(prompts, int) else prompts
        hosts.append(Host(tmp_path, prompts, **options))
        return hosts[-1]

    yield start
    for each in hosts:
        each.judgments.close()


def code(answer):
    status, content = answer
    return status, content["error"]["code"]


def test_a_choice_is_a_pair_and_a_completion(host):
    host = host([{"prompt": "p", "topic": "sums"}])

    async def judge():
        shown = await host.next()
        item = shown["item"]
        assert item == {"id": host.items[0].id, "prompt": "p", "topic": "sums"}
        assert shown["progress"] == {"judged": 0, "left": 1, "done": 0, "items": 1} and shown["last"] is None
        answers = (await host.answers(item["id"]))["answers"]
        texts = [" p: 0", " p: 1"]
        assert sorted(answers) == texts
        answer = await host.click("c1", 2, topic=" sums ", remark="\u2028odd\n", seconds=1.23456)
        assert answer == (200, {"saved": True, "id": "c1"})
        (line,) = host.lines()
        time = line.pop("time")
        assert time.endswith("+00:00")
        winner = texts.index(answers[1])
        assert line == {
            "prompt": "p", "chosen": answers[1], "rejected": answers[0], "completion": answers[1], "edited": False,
            "choice": 2, "winner": winner, "answers": texts, "order": [1 - winner, winner], "models": MODELS,
            "seeds": line["seeds"], "sampling": {"top_k": 5}, "cut": [False, True], "item": item["id"],
            "annotator": "anna", "topic": "sums", "remark": "odd", "seconds": 1.235, "id": "c1", "number": 1,
        }  # fmt: skip
        after = await host.next()
        assert after["item"] is None and after["is_done"]
        assert after["last"] == {"id": "c1", "item": item["id"], "choice": 2}

    asyncio.run(judge())


def test_an_edit_replaces_the_answer_that_was_edited(host):
    host = host()

    async def judge():
        shown = await host.next()
        answers = (await host.answers(shown["item"]["id"]))["answers"]
        await host.click("c1", 1, edit="  <b>mine</b> ")
        (line,) = host.lines()
        assert line["chosen"] == line["completion"] == "  <b>mine</b> " and line["rejected"] == answers[0]
        assert line["edited"] and line["answers"][line["winner"]] == answers[0] and line["choice"] == 1
        assert (await host.next())["item"]["id"] == host.items[1].id
        _, undone = await host.ask("/api/undo", {"id": "c1"})
        item = shown["item"]["id"]
        was = {"item": item, "choice": 1, "topic": "", "remark": "", "edit": "  <b>mine</b> "}
        assert undone == {"undone": True, "id": "c1", "was": was}
        assert host.lines() == [] and (await host.next())["item"]["id"] == item

    asyncio.run(judge())


def test_ties_and_skips_are_no_pairs(host):
    host = host()

    async def judge():
        for id, choice in (("c1", "tie"), ("c2", "skip"), ("c3", 1)):
            await host.click(id, choice, remark=id)
        lines = [json.loads(line) for line in undecided_path(host.out).read_text().splitlines()]
        assert [(each["id"], each["choice"]) for each in lines] == [("c1", "tie"), ("c2", "skip")]
        assert all(each["winner"] is None for each in lines)
        assert not any({"chosen", "rejected", "completion"} & each.keys() for each in lines)
        assert [each["id"] for each in host.lines()] == ["c3"]
        assert (await host.next())["progress"] == {"judged": 3, "left": 3, "done": 2, "items": 6}
        assert (await host.next("ben"))["item"]["id"] == host.items[1].id  # which anna has skipped

    asyncio.run(judge())


def test_a_click_that_comes_again_is_saved_once_whatever_happens_between(host):
    host = host()

    async def judge():
        item = host.items[0].id
        body = {"id": "c1", "item": item, "choice": 1, "shown": (await host.answers(item))["shown"]}
        answers = await asyncio.gather(*(host.ask("/api/judgments", body) for _ in range(5)))
        host.restart()
        answers += [await host.ask("/api/judgments", body)]
        assert answers == [(200, {"saved": True, "id": "c1"})] * 6 and len(host.lines()) == 1
        for _ in range(2):
            status, undone = await host.ask("/api/undo", {"id": "c1"})
            assert status == 200 and undone["undone"] and host.lines() == []
            host.restart()

    asyncio.run(judge())


def test_two_tabs_of_one_annotator(host):
    host = host()

    async def judge():
        tabs = [(await host.next())["item"]["id"] for _ in range(2)]
        assert tabs[0] == tabs[1]
        assert (await host.click("a", 1, item=tabs[0]))[0] == 200
        assert code(await host.click("b", 2, item=tabs[1])) == (409, "already_judged")
        assert code(await host.click("a", 2, item=host.items[1].id)) == (409, "id_taken")
        assert code(await host.click("a", 1, "ben", item=tabs[0])) == (409, "id_taken")
        assert (await host.click("b", 2))[0] == 200
        assert code(await host.ask("/api/undo", {"id": "a"})) == (409, "not_last")
        assert [each["id"] for each in host.lines()] == ["a", "b"]
        both = [host.click(id, 1, item=host.items[3].id) for id in ("c", "d")]
        assert sorted(status for status, _ in await asyncio.gather(*both)) == [200, 409]
        _, other = await host.ask("/api/undo", {"id": "b"}, "ben")
        assert other["was"] is None and len(host.lines()) == 3

    asyncio.run(judge())


def test_others_get_other_items_until_a_claim_ends(host):
    host = host(2)

    async def judge():
        assert (await host.next("anna"))["item"]["id"] == host.items[0].id
        assert (await host.next("ben"))["item"]["id"] == host.items[1].id
        await host.click("b1", 1, "ben")
        waiting = await host.next("ben")
        assert waiting["item"] is None and not waiting["is_done"] and waiting["progress"]["left"] == 1
        host.clock.now = CLAIM_S + 1
        assert (await host.next("ben"))["item"]["id"] == host.items[0].id
        await host.click("b2", 1, "ben")
        assert (await host.click("a1", 1, item=host.items[0].id))[0] == 200  # late, and not lost
        assert (await host.next("anna"))["is_done"] and (await host.next("ben"))["is_done"]

    asyncio.run(judge())


def test_answers_are_the_same_for_all_and_after_a_restart_those_that_were_judged(host):
    host = host(per_item=2)

    async def judge():
        item = host.items[0].id
        anna, ben = [(await host.answers(item, who))["answers"] for who in ("anna", "ben")]
        assert sorted(anna) == sorted(ben)
        before = await host.answers(host.items[1].id)
        body = {"id": "c9", "item": host.items[1].id, "shown": before["shown"], "choice": 1}
        await host.click("c1", 1)
        host.salt, host.seed = "!", 1  # other models, and another seed
        host.restart()
        assert sorted((await host.answers(item, "ben"))["answers"]) == sorted(anna)
        await host.click("c2", 1, "ben")
        first, second = host.lines()
        assert all(first[name] == second[name] for name in ("answers", "models", "seeds", "cut"))
        assert code(await host.ask("/api/judgments", body)) == (409, "answers_changed")
        assert code(await host.ask("/api/answers/none")) == (404, "no_such_item")

    asyncio.run(judge())


def test_equal_answers_have_no_better_one(host):
    host = host(1, same=["p0"])

    async def judge():
        item = host.items[0].id
        answers = (await host.answers(item))["answers"]
        assert code(await host.click("c1", 1)) == (400, "equal_answers")
        assert code(await host.click("c1", 1, edit=answers[0])) == (400, "same_edit")
        assert code(await host.click("c1", 1, edit=" \n")) == (400, "empty_edit")
        assert host.lines() == [] and (await host.click("c1", "tie"))[0] == 200

    asyncio.run(judge())


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""}, {"id": "x" * 65}, {"id": "../x"}, {"id": 1}, {"item": None}, {"item": []}, {"shown": 3},
        {"choice": 0}, {"choice": 3}, {"choice": True}, {"choice": 1.0}, {"choice": "1"}, {"choice": None},
        {"choice": [1]}, {"edit": 3}, {"edit": "x", "choice": "tie"}, {"edit": "\ud800"}, {"edit": "x" * 200_001},
        {"topic": 3}, {"topic": "x" * 101}, {"remark": {}}, {"remark": "x" * 10_001}, {"remark": "\udfff"},
    ],
)  # fmt: skip
def test_a_wrong_click_is_one_line_and_leaves_no_trace(host, wrong):
    host = host(1)

    async def judge():
        item = host.items[0].id
        right = {"id": "c1", "item": item, "shown": (await host.answers(item))["shown"], "choice": 1}
        status, content = await host.ask("/api/judgments", right | wrong)
        message = content["error"]["message"]
        assert status == 400 and message.startswith("'") and "\n" not in message
        assert host.lines() == []

    asyncio.run(judge())


@pytest.mark.parametrize("seconds", [-1, 1e9, "3", None, True, [1]])
def test_a_time_that_can_not_be_is_not_known(host, seconds):
    host = host(1)
    asyncio.run(host.click("c1", 1, seconds=seconds))
    assert host.lines()[0]["seconds"] is None


def test_a_clock_that_jumps_changes_no_order(host, monkeypatch):
    host, times = host(), ["2031-01-01T00:00:00", "1970-01-01T00:00:00", "2026-03-29T02:30:00", "2000-01-01T00:00:00"]

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, zone):
            return datetime.datetime.fromisoformat(times[len(host.lines())]).replace(tzinfo=zone)

    monkeypatch.setattr(clicks.datetime, "datetime", Jumping)

    async def judge():
        for n in range(4):
            assert (await host.click(f"c{n}", 1, seconds=n))[0] == 200
            host.restart()
            assert (await host.next())["last"]["id"] == f"c{n}"
        assert [(line["id"], line["time"][:19], line["seconds"]) for line in host.lines()] == [
            (f"c{n}", time, n) for n, time in enumerate(times)
        ]
        for n in (3, 2, 1, 0):
            assert (await host.ask("/api/undo", {"id": f"c{n}"}))[1]["was"]["item"] == host.items[n].id

    asyncio.run(judge())


def test_any_request_gets_json_and_leaves_no_trace(host):
    host, draw = host(2), random.Random(0)
    values = [None, True, -1, 1, 1e400, 2**70, "", "x", "\0", "<b>", "\ud800", "tie", "c1", [], {}, [[[]]]]
    values.append(host.items[0].id)
    names = ["id", "item", "shown", "choice", "edit", "topic", "remark", "seconds", "more"]
    paths = ["/api/next", "/api/judgments", "/api/undo", f"/api/answers/{host.items[0].id}", "/", "/x", "/api/../x"]

    async def ask():
        for _ in range(1500):
            body = {name: draw.choice(values) for name in draw.sample(names, draw.randrange(9))}
            content = [json.dumps(body), json.dumps(draw.choice(values)), "{" * draw.randrange(200), "\xff"]
            content = draw.choice(content).encode("latin-1")
            method, path = draw.choice(["GET", "POST", "PUT", "HEAD", "DELETE"]), draw.choice(paths)
            headers = {"Authorization": "Bearer token-of-anna-0123", "Accept": "application/json"}
            answer = await ask_async(host.app, method, path, content, headers)
            assert answer.status in (200, 400, 401, 404, 405, 409), (answer, path, content)
            if method != "HEAD" and answer.status != 200:
                assert answer.json()["error"]["message"].count("\n") == 0

    asyncio.run(ask())
    assert host.lines() == [] and (host.out.parent / "prefs.undecided.jsonl").read_text() == ""


def test_only_a_token_lets_in(host):
    host = host()

    async def ask():
        for path, method in (("/", "GET"), ("/api/next", "POST"), ("/api/undo", "POST"), ("/api/judgments", "POST"),
                             (f"/api/answers/{host.items[0].id}", "GET")):  # fmt: skip
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic token-of-anna-0123"}):
                assert (await ask_async(host.app, method, path, {}, headers)).status == 401
            assert (await ask_async(host.app, method, f"{path}?token=wrong", {})).status == 401
        assert (await ask_async(host.app, "GET", "/?token=token-of-anna-0123")).body == b"<p>page</p>"
        assert (await ask_async(host.app, "POST", "/api/next?token=token-of-anna-0123", {})).status == 401
        for headers in ({"Host": "evil.example"}, {"Host": "localhost", "Origin": "http://evil.example"}):
            answer = await ask_async(host.app, "GET", "/?token=token-of-anna-0123", headers=headers)
            assert answer.status in (400, 403) and answer.json()["error"]
        for path in (
            "/../prefs.jsonl",
            "/prefs.tokens.json",
            "/api/answers/..%2f..%2fprefs.jsonl",
            "/api/answers/../x",
        ):
            answer = await ask_async(host.app, "GET", path, headers={"Authorization": "Bearer token-of-anna-0123"})
            assert answer.status == 404 and answer.json()["error"]

    asyncio.run(ask())


def test_a_model_that_fails_is_asked_again_and_not_named(host, capsys):
    host = host(1)

    async def judge():
        item, accept = host.items[0].id, {"accept": "application/json"}
        for headers in (accept, {}):
            host.fails = 2
            status, content = await host.ask(f"/api/answers/{item}", None, **headers)
            assert status == 503 and content["error"]["code"] == "no_answers" and "brass" not in str(content)
        assert "brass: out of memory" in capsys.readouterr().err
        assert len((await host.answers(item))["answers"]) == 2

    asyncio.run(judge())


def test_a_click_that_comes_again_when_its_item_is_gone_was_saved(host):
    host = host()

    async def judge():
        item = (await host.next())["item"]["id"]
        shown = (await host.answers(item))["shown"]
        click = {"id": "c1", "item": item, "shown": shown, "choice": 1}
        assert (await host.ask("/api/judgments", click))[0] == 200
        host.items = host.items[1:]
        host.restart()
        assert await host.ask("/api/judgments", click) == (200, {"saved": True, "id": "c1"})
        assert code(await host.ask("/api/judgments", click | {"id": "c2"})) == (404, "no_such_item")
        assert code(await host.ask("/api/judgments", click, who="ben")) == (404, "no_such_item")

    asyncio.run(judge())
    assert len(host.lines()) == 1


def test_a_full_disk_saves_nothing_and_says_so(host, monkeypatch):
    host = host()

    async def judge():
        def fail(*_):
            raise OSError(28, "No space left on device")

        await host.click("c0", 1)
        with monkeypatch.context() as patch:
            patch.setattr(Judgments, "add", fail)
            patch.setattr(Judgments, "remove", fail)
            assert code(await host.click("c1", 1)) == (503, "not_saved")
            assert code(await host.ask("/api/undo", {"id": "c0"})) == (503, "not_saved")
        assert (await host.click("c1", 1))[0] == 200 and len(host.lines()) == 2

    asyncio.run(judge())


def test_a_file_that_was_made_a_link_is_not_followed_and_its_place_is_not_told(host, capsys):
    host = host()

    async def judge():
        await host.click("c0", 1)
        host.out.rename(host.out.with_name("moved"))
        host.out.symlink_to("moved")
        for answer in (await host.click("c1", 1), await host.ask("/api/undo", {"id": "c0"})):
            assert code(answer) == (503, "not_saved") and str(host.out.parent) not in str(answer)
        host.out.unlink()
        assert (await host.click("c1", 1))[0] == 200 and len(host.lines()) == 1

    asyncio.run(judge())
    assert capsys.readouterr().err.count(f"note: {host.out} is a symbolic link") == 2


def test_the_stream_ends_in_the_answers_and_tells_no_more_than_the_page_needs(host):
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    host = host([{"messages": messages, "secret": "brass"}])

    async def ask():
        said = [json.dumps(await host.next(who)) for who in TOKENS.values()]
        item = host.items[0].id
        assert json.loads(said[0])["item"] == {"id": item, "topic": "", "messages": messages}
        headers = {"Authorization": "Bearer token-of-anna-0123"}
        answer = await ask_async(host.app, "GET", f"/api/answers/{item}", headers=headers)
        *added, end = map(json.loads, answer.events())
        texts = ["".join(parts) for parts in zip(*(each["add"] for each in added), strict=True)]
        whole = await host.answers(item)
        assert end == {"done": True, "shown": whole["shown"], "cut": whole["cut"]} and texts == whole["answers"]
        said += [answer.body.decode(), str(answer.headers), json.dumps(whole), json.dumps(await host.click("c1", 2))]
        said += [json.dumps((await host.ask("/api/undo", {"id": "c1"}))[1])]
        secrets = "brass", "copper", "1111", "2222", "seed", "order", "winner"
        assert not any(word in text for text in said for word in secrets)

    asyncio.run(ask())


def test_a_random_clicker_over_a_thousand_items_has_no_position_bias(host, monkeypatch):
    """Neither the first place nor a model wins more often, and places and models are independent of each other."""
    host, draw = host(1000, tokens={"token-of-anna-0123": "anna"}), random.Random(0)
    monkeypatch.setattr("os.fsync", lambda file: None)

    async def judge():
        for n in range(1000):
            assert (await host.click(f"c{n}", draw.choice([1, 2])))[0] == 200

    asyncio.run(judge())
    lines = host.lines()
    assert len({line["item"] for line in lines}) == 1000
    for counts in (
        collections.Counter(line["choice"] for line in lines),
        collections.Counter(line["winner"] for line in lines),
        collections.Counter(line["order"][0] for line in lines),
    ):  # within 2.6 standard deviations of a half: an interval of 99 % contains it
        assert all(abs(count - 500) < 2.6 * 15.8 for count in counts.values()), counts
    assert all(tuple(line["order"]) == draw_order(0, "anna", line["item"]) for line in lines)
    assert all(line["order"][line["choice"] - 1] == line["winner"] for line in lines)
