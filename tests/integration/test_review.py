"""The page of `jaxgpt review` in a browser: an expert with a hidden rule, keyboard and mouse, and a killed server."""

import json
import re
import signal

import pytest

from jaxgpt import console
from jaxgpt.commands import agreement
from jaxgpt.data import json_tokenizers
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import save_hf
from tests.support.browser import CHROMIUM, DRIVER, browser
from tests.support.models import random_model
from tests.support.review_page import NetworkLog, ReviewPage
from tests.support.servers import Server

for library in ("selenium", "starlette", "uvicorn"):
    pytest.importorskip(library)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed"),
]

NAMES = ("zebulon", "quixote")  # of the models: words that are in no text
JUDGED, EDITED, UNDONE = 60, 10, 5
KILLED_AFTER = 40  # judgments, right after a click, of which the server may have heard or not
WORDS = "The old fox sat by a quiet river and <b>sang</b> to the pale bell of an inn & slept."
# What each answer of the server may have, and nothing else: no model, no order, no seed.
FIELDS = {
    "api/next": {"annotator", "item", "is_done", "progress", "last", "id", "prompt", "topic", "choice"}
    | {"judged", "left", "done", "items"},
    "api/answers": {"add", "done", "shown", "cut"},
    "api/judgments": {"saved", "id"},
    "api/undo": {"undone", "id", "was", "item", "choice", "topic", "remark", "edit"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two models of random words."""
    tokenizer = json_tokenizers.train([WORDS] * 5, 400)
    folders = []
    for seed, name in enumerate(NAMES):
        folder = tmp_path_factory.mktemp("models") / name
        config = GPT2Config(block_size=64, vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16)
        save_hf(random_model(config, seed=seed), folder)
        for file, text in tokenizer.hugging_face_files().items():
            (folder / file).write_text(text)
        folders.append(folder)
    return folders


@pytest.fixture
def start(runs, tmp_path):
    """Starts the review, or starts it again at its old address."""
    prompts = [{"prompt": f"Say it <i>{n}</i>.", "topic": ["law", "art"][n % 2]} for n in range(JUDGED + 4)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    words = ["review", *runs, "--prompts", tmp_path / "prompts.jsonl", "--out", tmp_path / "prefs.jsonl"]
    words += ["--max-new-tokens", 8, "--temperature", 1, "--device", "cpu"]
    return lambda port=0: Server(*words, "--port", port)


def choose(answers):
    """The hidden rule: more e's are better."""
    first, second = (answer.count("e") for answer in answers)
    return "tie" if first == second else 1 if first > second else 2


def judge(page, number, expected):
    """Judge what is on the page, in the way that the number gives; keep what the file must then have."""
    item, prompt, answers, by_mouse = page.item, page.prompt, page.answers, number % 2 == 1
    choice = choose(answers)
    record = {"prompt": prompt, "answers": answers, "choice": choice, "edited": False, "remark": page.remark}
    if number % (JUDGED // EDITED) == 0:
        place = choice if choice in (1, 2) else 1
        text = f"Better: <b>{number}</b>"
        page.edit(place, text, by_mouse)
        record |= {"choice": place, "edited": True, "chosen": text, "rejected": answers[place - 1]}
    else:
        if number % 7 == 3:
            page.write("remark", f"1=sue {number}")  # keys in a field choose nothing
            record["remark"] = f"1=sue {number}"
            by_mouse = True
        page.choose(choice, by_mouse)
        if choice != "tie":
            record |= {"chosen": answers[choice - 1], "rejected": answers[2 - choice]}
    expected[item] = record
    return item


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def require_the_records(folder, expected):
    """Both files have each judgment once, as it was made, and nothing else."""
    prefs, undecided = read_lines(folder / "prefs.jsonl"), read_lines(folder / "prefs.undecided.jsonl")
    records = {record["item"]: record for record in prefs + undecided}
    assert len(prefs) + len(undecided) == len(records) and records.keys() == expected.keys()
    for item, wanted in expected.items():
        record, place = records[item], wanted["choice"]
        shown = [record["answers"][number] for number in record["order"]]
        assert shown == wanted["answers"]
        assert {name: record[name] for name in wanted if name != "answers"} == {
            name: value for name, value in wanted.items() if name != "answers"
        }
        assert record["winner"] == (None if isinstance(place, str) else record["order"][place - 1])
        assert [model["name"] for model in record["models"]] == [*NAMES] and record["topic"] in ("law", "art")
        assert record["seconds"] is None or 0 <= record["seconds"] < 60
    assert all(record["choice"] in (1, 2) for record in prefs) and not any("chosen" in each for each in undecided)


def keys_of(value):
    if isinstance(value, dict):
        return {*value}.union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def require_blindness(events, bodies, pages, records):
    """Nothing that came to the browser tells which model wrote what."""
    secrets = {*NAMES} | {model["fingerprint"] for record in records for model in record["models"]}
    secrets |= {str(seed) for record in records for seed in record["seeds"] if seed > 10**6}
    everything = "\n".join([*(body for _, body in bodies), *events, *pages])
    assert [secret for secret in secrets if secret in everything] == []
    found = dict.fromkeys(FIELDS, 0)
    for url, body in bodies:
        if name := next((name for name in FIELDS if url.startswith(name)), None):
            texts = re.findall(r"^data: (.*)$", body, re.MULTILINE) if name == "api/answers" else [body]
            keys = set().union(*(keys_of(json.loads(text)) for text in texts))
            assert keys <= FIELDS[name], (name, keys - FIELDS[name])
            found[name] += 1
    assert found["api/answers"] >= JUDGED and found["api/judgments"] >= JUDGED and found["api/undo"] >= UNDONE


def require_places_that_look_alike(page):
    """The two answers differ in the page by nothing but their numbers and texts."""
    html = [page.session.run(f"return document.getElementById('answer{place}').outerHTML") for place in (1, 2)]
    for place in (0, 1):
        html[place] = re.sub(r"(<p[^>]*>).*?(</p>)", r"\1\2", html[place], flags=re.DOTALL)
        html[place] = re.sub("[12]", "N", re.sub(r'(<small id="cut.")( hidden="")?', r"\1", html[place]))
    assert html[0] == html[1]


def test_an_expert_judges_sixty_pairs_by_keyboard_and_mouse(start, tmp_path, capsys):
    expected, pages = {}, []
    with browser(1000, 800) as session:
        server = start()
        try:
            log, page = NetworkLog(session), ReviewPage(session, server.urls[0])
            assert not session.messages()
            for number in range(JUDGED):
                if number % 10 == 0:
                    require_places_that_look_alike(page)
                item = judge(page, number, expected)
                if number % (JUDGED // UNDONE) == 5:
                    page.undo(item, by_mouse=number % 24 == 5)
                    del expected[item]
                    assert page.item == item
                    assert judge(page, number + 2, expected) == item
                pages.append(session.run("return document.documentElement.outerHTML"))
                log.read()
                if number + 1 == KILLED_AFTER:
                    item, answers, prompt = page.item, page.answers, page.prompt
                    page.choose("skip", by_mouse=False, wait=False)
                    server = kill_and_start(server, start)
                    page.wait_for_item(other_than=item)
                    expected[item] = {"choice": "skip", "answers": answers, "prompt": prompt}
                    expected[item] |= {"edited": False, "remark": ""}
            bodies = log.bodies()
            assert "left" in page.text("#progress") and page.text("#progress").startswith(f"{JUDGED + 1} judged")
        finally:
            server.stop(signal.SIGKILL)
            server.process.stdout.close()
    require_the_records(tmp_path, expected)
    records = read_lines(tmp_path / "prefs.jsonl") + read_lines(tmp_path / "prefs.undecided.jsonl")
    assert sum(record["edited"] for record in records) == EDITED
    require_blindness(log.events, bodies, pages, records)
    assert console.run(agreement.main, [str(tmp_path / "prefs.jsonl")]) == 0
    out = capsys.readouterr().out
    assert f"{JUDGED + 1} judgments by 1 annotator on {JUDGED + 1} items" in out and f"; {EDITED} edited" in out
    assert all(f"{name} (" in out for name in NAMES)  # here, afterwards


def kill_and_start(server, start):
    """kill -9, and the same command again."""
    port = server.url.rpartition(":")[2]
    server.stop(signal.SIGKILL)
    server.process.stdout.close()
    return start(port)
