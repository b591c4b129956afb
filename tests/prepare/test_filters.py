import json

import pytest
from datatrove.data import Document

from jaxgpt.errors import UsageError
from jaxgpt.prepare import filters

# Words of a sentence each, none like another, so that no filter of repetition has a reason.
PROSE = (
    "The lighthouse keeper wrote in his diary every evening, and the entries grew longer as the winter came. "
    "He noted the direction of the wind, the colour of the clouds, and which of the fishing boats had returned. "
    "Nobody had asked him to do that, but his grandfather had kept such books before him, and they were still there. "
    "When a storm destroyed the old pier, those pages told the builders how high the water had been a century ago. "
    "They made the new one two metres taller, thanked the old man, and named the café at its end after his dog."
)


def run(steps, *texts):
    """The texts that come out."""
    data = (Document(text, "", metadata={"file": "f", "unit": 0, "line": i}) for i, text in enumerate(texts, 1))
    for step in steps:
        data = step.run(data)
    return [document.text for document in data]


def dropped(work):
    records = [json.loads(line) for path in sorted(work.rglob("*.jsonl")) for line in path.read_text().splitlines()]
    return [(record["line"], record["step"], record["reason"]) for record in records]


def test_wrong_encodings_are_repaired_and_right_ones_stay(tmp_path):
    right = ["São Paulo e a Ásia", "“quoted” — naïve Ã", "日本語 ﬁve ½", "Größe, c'est déjà vu"]
    wrong = [(text, text.encode().decode("cp1252", "ignore")) for text in ("café", "naïve façade", "Das größte Übel")]
    (step,) = filters.make_steps(("unicode",), tmp_path)
    assert run([step], *right) == right
    assert run([step], *(broken for _, broken in wrong)) == [text for text, _ in wrong]
    assert run([step], "e\u0301") == ["\u00e9"]


def test_steps_come_in_one_order_and_log_what_they_drop(tmp_path):
    names = ("gopher-quality", "fineweb", "unicode", "gopher-repetition", "c4", "boilerplate", "controls")
    steps = filters.make_steps(names, tmp_path)
    assert [step.name for step in steps] == list(filters.STEPS)
    left = run(steps, PROSE, "Cookie policy", "buy now. " * 200, "lorem ipsum. " + PROSE, "# - " * 300)
    assert [text.replace("\n", " ") for text in left] == [PROSE]
    assert {(line, step) for line, step, _ in dropped(tmp_path)} == {
        (2, "boilerplate"),
        (3, "gopher-repetition"),
        (4, "c4"),
        (5, "c4"),
    }
    assert ("lorem_ipsum" in {reason for _, _, reason in dropped(tmp_path)}) and steps[0].stats["changed"].total == 0


def test_length(tmp_path):
    assert run([filters.filter_by_length(3, 5, tmp_path)], "ab", "abc", "abcde", "abcdef") == ["abc", "abcde"]
    assert dropped(tmp_path) == [(1, "length", "too short or too long"), (4, "length", "too short or too long")]


def test_language(tmp_path):
    german = "Der Leuchtturmwärter schrieb jeden Abend in sein Tagebuch, und im Winter wurden die Einträge länger."
    french = "Le gardien du phare écrivait chaque soir dans son drop_log, et personne ne le lui avait demandé."
    assert run([filters.filter_by_language(("en", "de"), tmp_path)], PROSE, german, french) == [PROSE, german]
    assert dropped(tmp_path) == [(3, "language", "another language")]


def test_personal_data_is_counted_replaced_or_dropped(tmp_path):
    texts = [PROSE, "Write to ann.lee@mail.org or bob@mail.org.", "From 8.8.8.8 today."]
    for mode, expected in (
        ("report", texts),
        ("replace", [PROSE, "Write to <EMAIL> or <EMAIL>.", "From <IP> today."]),
        ("drop", [PROSE]),
    ):
        step = filters.Anonymise(mode, None, tmp_path / mode)
        assert run([step], *texts) == expected
        assert (step.stats["email"].total, step.stats["ip"].total) == (2, 1)
    assert dropped(tmp_path / "drop") == [(2, "pii", "personal data"), (3, "pii", "personal data")]


def test_names_by_the_users_model(tmp_path):
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("en")
    rules = [{"label": "PERSON", "pattern": "Ann Lee"}, {"label": "GPE", "pattern": "Oslo"}]
    model.add_pipe("entity_ruler").add_patterns(rules)
    model.to_disk(tmp_path / "model")
    step = filters.Anonymise("replace", str(tmp_path / "model"), tmp_path)
    assert run([step], "Ann Lee <ann@lee.org> lives in Oslo.") == ["<PERSON> <<EMAIL>> lives in <PLACE>."]
    spacy.blank("en").to_disk(tmp_path / "none")
    for name, message in (("none", "no component that finds names"), ("missing", "Can't find model")):
        with pytest.raises(UsageError, match=message):
            filters.load_names(str(tmp_path / name))
