"""SuperGLUE's records with several examples in them, or with marked words, as flat ones, whose fields make a text."""

from collections.abc import Callable, Iterator
from typing import Any

Flat = dict[str, Any]  # fields by name; those of readers.Item, and `prediction` for its choice


def flatten_multirc(record: Flat) -> Iterator[Flat]:
    """Each answer to each question about a passage, which is right or not."""
    passage = record["passage"]
    for question in passage["questions"]:
        for answer in question["answers"]:
            index = record["idx"], question["idx"], answer["idx"]
            texts = {"passage": passage["text"], "question": question["question"], "answer": answer["text"]}
            yield {**texts, "index": index} | ({"label": answer["label"]} if "label" in answer else {})


def flatten_record(record: Flat) -> Iterator[Flat]:
    """Each entity of a passage in the place that a query leaves open; `end` is the entity's last character."""
    text = record["passage"]["text"]
    entities = (text[each["start"] : each["end"] + 1] for each in record["passage"]["entities"])
    names = [*dict.fromkeys(entities)]
    passage = text.replace("\n@highlight\n", " ")
    for question in record["qas"]:
        answers = tuple(each["text"] for each in question["answers"]) if "answers" in question else None
        for name in names:
            flat = {"passage": passage, "query": question["query"].replace("@placeholder", name)}
            flat |= {"index": (question["idx"],), "prediction": name}
            yield flat | ({} if answers is None else {"answers": answers, "label": name in answers})


def mark_wic(record: Flat) -> Iterator[Flat]:
    """Two sentences with stars around the word; start and end are characters."""
    flat = dict(record)
    for k in "12":
        sentence, start, end = record[f"sentence{k}"], record[f"start{k}"], record[f"end{k}"]
        flat[f"sentence{k}"] = f"{sentence[:start]}*{sentence[start:end]}*{sentence[end:]}"
    yield flat


def mark_wsc(record: Flat) -> Iterator[Flat]:
    """A text with stars around the pronoun, whose place is counted in words."""
    target, words = record["target"], record["text"].split()
    start = target["span2_index"]
    end = start + len(target["span2_text"].split())
    marked = [*words[:start], "*" + " ".join(words[start:end]) + "*", *words[end:]]
    yield record | {"text": " ".join(marked), "pronoun": target["span2_text"], "noun": target["span1_text"]}


RECORDS: dict[str, Callable[[Flat], Iterator[Flat]]] = {
    "multirc": flatten_multirc,
    "record": flatten_record,
    "wic": mark_wic,
    "wsc": mark_wsc,
}
