"""A corpus in which all texts of all kinds of data have a planted word, and commands that read, train on and show it.

What any of them prints, logs or reports must not have the word. `WITH_TEXT` are the files that have text because they
are asked for it, with the reason.
"""

import json
import warnings
from pathlib import Path

PLANTED, LABEL = "Qwyjibo", "Plimsoll"  # in texts, and in the names of labels, which are part of a model
TEXT = f"The {PLANTED} of them sat by the river, and {PLANTED} said that it would rain. "


def _lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def _turns(n):
    return [{"role": "user", "content": f"{PLANTED} {n}?"}, {"role": "assistant", "content": f" {PLANTED} {n}."}]


ROWS = range(12)
FILES = {
    "text.txt": TEXT * 40,
    "docs.jsonl": _lines(*({"text": f"{n}. {TEXT * 3}", "author": PLANTED, "id": n} for n in ROWS)),
    "chat.jsonl": _lines(*({"messages": _turns(n)} for n in ROWS)),
    "examples.jsonl": _lines(*({"prompt": f"{PLANTED} {n}", "completion": f" {PLANTED} {n}"} for n in ROWS)),
    "pairs.jsonl": _lines(
        *({"prompt": f"{PLANTED} {n}", "chosen": f" {PLANTED}", "rejected": f" no {PLANTED}"} for n in ROWS)
    ),
    "labels.csv": "text,label\n" + "".join(f'"{PLANTED}, {n}",{LABEL} {n % 2}\n' for n in ROWS),
    "scores.csv": "text,score\n" + "".join(f'"{PLANTED}, {n}",{n}\n' for n in ROWS),
    "prompts.jsonl": _lines(*({"prompt": f"{PLANTED} {n}:", "answer": f"{PLANTED} {n}"} for n in ROWS)),
    "items.jsonl": _lines({"context": PLANTED, "choices": [f"{PLANTED} a", f"{PLANTED} b"], "answer": 0}),
    "squad.json": json.dumps({"data": [{"title": PLANTED, "paragraphs": [{"context": TEXT, "qas": [
        {"id": PLANTED, "question": f"{PLANTED}?", "answers": [{"text": PLANTED, "answer_start": 4}]}]}]}]}),
    "bias.csv": "more,less,group\n" + f'"{PLANTED}, he said.","{PLANTED}, she said.",a\n' * 2,
    "her.txt": f"{PLANTED} saw her brother. \n\nHe saw {PLANTED}.\n",
    "users.jsonl": _lines(
        *({"prompt": f"{PLANTED} {n}", "completion": f" {n}", "who": f"{PLANTED} {n}"} for n in ROWS)
    ),
    "talk.jsonl": _lines({"content": f"{PLANTED}?"}, {"messages": _turns(1)[:1]}),
    "prefs.jsonl": _lines(
        *({"item": n, "annotator": name, "winner": (n + i) % 2, "prompt": PLANTED, "remark": f"{PLANTED} {n}",
           "answers": [PLANTED, f"{PLANTED} {n}"]} for n in ROWS for i, name in enumerate(("anna", "ben")))
    ),
    "reward.py": "def score(prompt, answer, record):\n    return float(len(answer) % 2)\n",
    "raises.py": "def score(prompt, answer, record):\n    raise ValueError(record['answer'] + answer)\n",
    "sweep.toml": '[flags]\ndata = "text.txt"\nval = "0.2"\nsteps = 2\nB = 2\nT = 16\nn-layer = 1\nn-head = 1\n'
    'n-embd = 8\nblock-size = 32\ndevice = "cpu"\n[grid]\nlr = [1e-3, 1e-2]\n',
}  # fmt: skip

SHAPE = "--n-layer 1 --n-head 1 --n-embd 8 --block-size 32 --B 2 --T 16 --device cpu"
FINE = "--init-from hf --B 2 --T 16 --steps 2 --device cpu"
COMMANDS = f"""
prepare text.txt docs.jsonl table.parquet --out made --val 0.3 --pii replace --canaries 1 --workers 2 --work-dir place
prepare docs.jsonl --out near --dedup minhash --workers 1
tokenizer train text.txt --vocab 300 --out bpe
inspect made
inspect made --html page.html
inspect made --card
train {SHAPE} --data made --val made --order shuffled --steps 3 --out run --sample-prompt word --profile 1
train {SHAPE} --data text.txt --tokenizer bpe --val 0.2 --steps 2 --out small
track run --to tensorboard
verify run
replay run --step 1
evaluate run --data text.txt --json run/eval.json
evaluate run --choices items.jsonl --json choices.json
evaluate run --canaries made --json canaries.json
evaluate run --generate squad.json --answers written.jsonl --max-new-tokens 3 --json generated.json
report run --png png --csv rows.csv
report run --out named.html
agreement prefs.jsonl --out agreement.html --json agreement.json
look run --prompt word --out look.html --json look.json
sample run --prompt word --max-new-tokens 3
chat run --input talk.jsonl --max-new-tokens 3
export run hf
doctor --out run --json doctor.json
train {FINE} --data chat.jsonl --out chat
train {FINE} --data examples.jsonl --out examples
train {FINE} --data pairs.jsonl --objective dpo --out dpo
replay dpo --step 1
evaluate dpo --pairs pairs.jsonl --json pairs.json
train {FINE} --data labels.csv --val 0.3 --recipe classify --out labels
evaluate labels --data labels.csv --json labels.json
predict labels --data labels.csv --out predicted.jsonl
train {FINE} --data scores.csv --score-field score --out scores
train {FINE} --data prompts.jsonl --objective rloo --group-size 2 --reward reward.py:score --answer-tokens 3 --out rl
play --env tic-tac-toe --record games.jsonl --games 3
sweep sweep.toml --out sweep
export labels exported --license mit
evaluate run --bias bias.csv --bias-text her.txt --json run/bias.json
prepare her.txt docs.jsonl --out mirrored --counterfactual default --dedup none --workers 1
train {SHAPE} --data mirrored --steps 2 --out watched --bias bias.csv --bias-text her.txt --bias-every 1
train {SHAPE} --data text.txt --steps 2 --out private --dp-epsilon 8 --dp-delta 1e-3
train {FINE} --data users.jsonl --out users --dp-epsilon 8 --dp-delta 1e-3 --dp-unit who
export private private-hf
update run --data docs.jsonl --out updated --steps 2 --max-forgetting 9
export updated updated-hf
erase made --file text.txt --runs run updated
erase mirrored --pattern {PLANTED} --runs watched
erase mirrored --pattern {PLANTED} --apply --delete --runs watched
"""
FAULTS = f"""
train {SHAPE} --data broken.jsonl --out no
train {FINE} --data headless.jsonl --out no --dp-epsilon 8 --dp-delta 1e-3 --dp-unit who
train {SHAPE} --data text.txt --steps 2 --out watched2 --bias bias.csv --max-bias 0
evaluate run --bias types.jsonl
evaluate run --bias broken.json
evaluate run --bias bias.csv --bias-text her.txt --swaps her.txt
update updated --data broken.jsonl --out no
erase near --file latin.txt
train {SHAPE} --data number.jsonl --out no
train {SHAPE} --data latin.txt --out no
train {SHAPE} --data types.jsonl --out no
train {SHAPE} --data good.jsonl --out no
train {SHAPE} --data margin.jsonl --out no
train {SHAPE} --data ragged.csv --out no
train {SHAPE} --data scores_of_text.csv --score-field score --out no
train {SHAPE} --data text.txt --tokenizer chars --val other.txt --out no
train {FINE} --data prompts.jsonl --objective rloo --group-size 2 --reward raises.py:score --answer-tokens 3 --out no
train {FINE} --data headerless.csv --objective rloo --group-size 2 --reward exact:answer --answer-tokens 3 --out no
train {FINE} --data prompts.jsonl --objective rloo --group-size 2 --reward number:answer --answer-tokens 3 --out no
train {FINE} --data long.jsonl --objective rloo --group-size 2 --reward exact:answer --answer-tokens 3 --out no
evaluate run --generate headerless.csv
evaluate run --generate types.jsonl
evaluate run --generate broken.json
evaluate run --choices types.jsonl
evaluate run --choices long_items.jsonl
evaluate run --pairs types.jsonl
evaluate labels --data unknown.csv
predict labels --data types.jsonl
chat run --input types.jsonl
review run --prompts types.jsonl --out no.jsonl
chat run --input long_talk.jsonl --max-new-tokens 3
sample run --prompt text.txt --tokens 3
prepare broken.jsonl number.jsonl types.jsonl ragged.csv latin.txt plain.parquet plain.gz --out none --workers 1
prepare docs.jsonl --decontaminate broken.jsonl --out none --workers 1
tokenizer train latin.txt --out none
inspect near
"""
BAD = {
    "broken.jsonl": f'{{"text": "{PLANTED}\n',
    "number.jsonl": f'{{"text": {PLANTED}}}\n',
    "latin.txt": PLANTED.encode() + b" \xe9\n",
    "types.jsonl": _lines({"text": [PLANTED], "label": {PLANTED: 1}, "prompt": {"a": PLANTED}, "messages": [PLANTED]}),
    "good.jsonl": _lines({"prompt": PLANTED, "completion": PLANTED, "good": PLANTED}),
    "margin.jsonl": _lines({"prompt": PLANTED, "chosen": PLANTED, "rejected": "a", "margin": PLANTED}),
    "ragged.csv": f'text,label\n"{PLANTED}",1,2\n',
    "scores_of_text.csv": f"text,score\na,{PLANTED}\n",
    "other.txt": f"{PLANTED} \u0416\u0417 " * 20,
    "headerless.csv": f"{PLANTED} one,{PLANTED} two\n{PLANTED} three,{PLANTED} four\n",
    "long.jsonl": _lines({"prompt": f"{PLANTED} " * 99, "answer": PLANTED}),
    "broken.json": json.dumps({"data": [{"paragraphs": [{"context": PLANTED, "qas": [{"question": [PLANTED]}]}]}]}),
    "long_items.jsonl": _lines({"context": PLANTED, "choices": [PLANTED * 99, "b"], "answer": PLANTED}),
    "unknown.csv": f"text,label\n{PLANTED},{PLANTED}\n",
    "long_talk.jsonl": _lines({"content": f"{PLANTED} " * 99}),
    "plain.parquet": PLANTED,
    "plain.gz": PLANTED,
}
WITH_TEXT = {
    "agreement.html": "agreement --out asks for the items in dispute, to talk about them",
    "agreement.json": "the same items, as numbers and texts",
    "written.jsonl": "evaluate --answers asks for the answers, with their references",
    "answers.jsonl": "what a policy answers to which prompt: the file is for that, and --show-every 0 writes none",
    "tokenizer.json": "a vocabulary is made of the texts that it is trained on, and a model needs it",
    "merges.txt": "the same vocabulary, as transformers wants it",
    "vocab.json": "the same vocabulary, as transformers wants it",
}


def write_files(folder: Path) -> set[Path]:
    """Write the corpus and the faulty files; returns all of them."""
    for name, content in (FILES | BAD).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyarrow
        import pyarrow.parquet

    table = pyarrow.table({"text": [f"{n} {TEXT}" for n in ROWS], "source": [PLANTED] * len(ROWS)})
    pyarrow.parquet.write_table(table, folder / "table.parquet")
    (folder / "place").mkdir(mode=0o700)
    return {path for path in folder.iterdir() if path.is_file()}
