"""Places in texts that test_readers.py's records don't have."""

from jaxgpt.data.benchmarks import nested


def test_a_pronoun_of_several_words_is_marked():
    target = {"span1_text": "the big dog", "span1_index": 0, "span2_text": "the one", "span2_index": 4}
    (flat,) = nested.mark_wsc({"text": "The big dog saw the one outside.", "target": target, "idx": 3})
    assert flat["text"] == "The big dog saw *the one* outside."
    assert (flat["pronoun"], flat["noun"], flat["idx"]) == ("the one", "the big dog", 3)


def test_the_same_entity_is_asked_for_once():
    passage = {"text": "Ann, Ann", "entities": [{"start": 0, "end": 2}, {"start": 5, "end": 7}]}
    record = {"passage": passage, "qas": [{"query": "@placeholder and @placeholder", "idx": 5}], "idx": 1}
    assert [*nested.flatten_record(record)] == [
        {"passage": "Ann, Ann", "query": "Ann and Ann", "index": (5,), "prediction": "Ann"}
    ]
