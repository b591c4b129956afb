"""Flattens those records of SuperGLUE that hold several examples, or that point at words of their text."""

from collections.abc import Callable, Iterator
from typing import Any

Flat = dict[str, Any]  # fields by name; those of readers.Item, and `prediction` for its choice


def flatten_multirc(record: Flat) -> Iterator[Flat]:
    """One for each answer to each question about a passage; its label says whether it is right."""
    passage = record["passage"]
    for question in passage["questions"]:
        for answer in question["answers"]:
            index = record["idx"], question["idx"], answer["idx"]
            texts = {"passage": passage["text"], "question": question["question"], "answer": answer["text"]}
            yield {**texts, "index": index} | ({"label": answer["label"]} if "label" in answer else {})


def flatten_record(record: Flat) -> Iterator[Flat]:
    """One for each entity of a passage, put into the query's gap; `end` is the entity's last character."""
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
    """Put stars around the word in both sentences; start and end count characters."""
    flat = dict(record)
    for k in "12":
        sentence, start, end = record[f"sentence{k}"], record[f"start{k}"], record[f"end{k}"]
        flat[f"sentence{k}"] = f"{sentence[:start]}*{sentence[start:end]}*{sentence[end:]}"
    yield flat


def mark_wsc(record: Flat) -> Iterator[Flat]:
    """Put stars around the pronoun; its index counts words."""
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
