"""GLUE's and SuperGLUE's files as they are published, some rows of each made by hand, with what is odd in them."""

import json
from pathlib import Path

MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
)
MNLI += "\tsentence1\tsentence2"
PARSE = "fiction\t( a )\t( b )\t(ROOT a)\t(ROOT b)"
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
CAPTION = "main-captions\tMSRvid\t2012test\t0001\tnone\tnone"
MRPC = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"

GLUE = {
    # No header; the third column is the authors' star; a quote is a character.
    "CoLA/train.tsv": 'gj04\t1\t\tThe sailors rode the breeze.\nc-05\t0\t*\tHe said "that.\nrhl07\t0\t*\tMe goes.\n',
    "CoLA/dev.tsv": "gj04\t1\t\tShe left.\ngj04\t0\t*\tLeft she the.\n",
    "CoLA/test.tsv": 'index\tsentence\n0\tBill whistled.\n1\t"Who" came?\n',
    # A blank ends each sentence.
    "SST-2/train.tsv": "sentence\tlabel\nhide new secretions \t0\nthat loves its characters \t1\n",
    "SST-2/dev.tsv": "sentence\tlabel\nit 's a charming journey . \t1\nunflinchingly bleak \t0\n",
    "SST-2/test.tsv": "index\tsentence\n0\tuneasy mishmash of styles .\n1\tby the end , joy .\n",
    # Microsoft's begins with a byte order mark, and ends its lines with \r\n; quotes are not closed.
    "MRPC/train.tsv": f'{MRPC}\n1\t70\t71\tHe said "no.\tHe said no.\n0\t72\t73\tA\tB\n',
    "MRPC/dev.tsv": f"{MRPC}\n1\t80\t81\tOne\tUn\n0\t82\t83\tTwo\tTrois\n",
    "MRPC/test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t90\t91\tX\tY\n1\t92\t93\tV\tW\n",
    "STS-B/train.tsv": f"{STSB}\tscore\n0\t{CAPTION}\tA plane.\tAn air plane.\t5.000\n1\t{CAPTION}\tA man\tCat.\t0.8\n",
    "STS-B/dev.tsv": f"{STSB}\tscore\n0\t{CAPTION}\tA hat.\tA hard hat.\t3.25\n1\t{CAPTION}\tA child.\tA horse.\t0\n"
    f"2\t{CAPTION}\tA mouse.\tThe mouse.\t4.6\n",
    "STS-B/test.tsv": f"{STSB}\n0\t{CAPTION}\tA girl.\tA boy.\n1\t{CAPTION}\tA bird.\tBirds.\n",
    # Some rows end too early, and some questions are empty.
    "QQP/train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n13\t1\t2\tWhy?\tHow so?\t1\n14\t3\t4\tWho"
    "\n15\t5\t6\tWhen?\t\t0\n",
    "QQP/dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n20\t1\t2\tA?\tB?\t0\n21\t3\t4\tC?\tC ?\t1\n",
    "QQP/test.tsv": "id\tquestion1\tquestion2\n0\tD?\tE?\n1\tF?\tG?\n",
    "MNLI/train.tsv": f"{MNLI}\tlabel1\tgold_label\n0\t1\t1n\t{PARSE}\tIt rains.\tIt is wet.\tneutral\tneutral\n"
    f"1\t2\t2e\t{PARSE}\tI run.\tI move.\tentailment\tentailment\n"
    f"2\t3\t3c\t{PARSE}\tI run.\tI sit.\tcontradiction\tcontradiction\n",
    **{
        f"MNLI/dev_{name}.tsv": f"{MNLI}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
        f"0\t4\t4e\t{PARSE}\t{name} p\t{name} h\tneutral\tentailment\tentailment\tentailment\tneutral\tentailment\n"
        f"1\t5\t5e\t{PARSE}\tno\tyes\tneutral\tentailment\tneutral\tentailment\tcontradiction\t-\n"
        f"2\t6\t6n\t{PARSE}\tso\tnot\tneutral\tneutral\tneutral\tneutral\tneutral\tneutral\n"
        for name in ("matched", "mismatched")
    },
    **{
        f"MNLI/test_{name}.tsv": f"{MNLI}\n{first}\t7\t7\t{PARSE}\ta {name}\tb\n{first + 1}\t8\t8\t{PARSE}\tc\td\n"
        for name, first in (("matched", 0), ("mismatched", 9796))
    },
    "diagnostic/diagnostic.tsv": "index\tsentence1\tsentence2\n0\tThe cat sat.\tThe cat did not sit.\n",
    "QNLI/train.tsv": "index\tquestion\tsentence\tlabel\n0\tWhen?\tIn 1860.\tentailment\n1\tWho\tNo\tnot_entailment\n",
    "QNLI/dev.tsv": "index\tquestion\tsentence\tlabel\n0\tWhere?\tHere.\tentailment\n1\tWhat?\tI.\tnot_entailment\n",
    "QNLI/test.tsv": "index\tquestion\tsentence\n0\tWhich?\tThat.\n1\tHow?\tSo.\n",
    "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tNo arms.\tArms.\tnot_entailment\n1\tA.\tA.\tentailment\n",
    "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tDana said so.\tDana.\tentailment\n1\tB\tC\tnot_entailment\n",
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\tMangla came.\tShe came.\n1\tD.\tE.\n",
    "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tI stuck a pin.\tThe pin is.\t1\n1\tHe ate.\tIt ate.\t0\n",
    "WNLI/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tThe drain is clogged.\tIt is.\t1\n1\tF.\tG.\t0\n",
    "WNLI/test.tsv": "index\tsentence1\tsentence2\n0\tMaude and Dora.\tThey.\n1\tH.\tI.\n",
}


def lines(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def multirc(index, answers, first=0, labelled=True):
    """A passage with two questions, whose answers' labels are given."""
    questions, number = [], 0
    for k, labels in enumerate(answers):
        choices = []
        for label in labels:
            choices.append({"text": f"a{number}", "idx": number + first} | ({"label": label} if labelled else {}))
            number += 1
        questions.append({"question": f"Q{k}?", "answers": choices, "idx": k + 2 * index})
    return {"idx": index, "version": 1.1, "passage": {"text": f"Passage {index}.", "questions": questions}}


RECORD_TEXT = "Ann met Bob.\n@highlight\nBob left"  # with "Bob" twice among the entities


def record(index, answers, first_query):
    entities = [{"start": 0, "end": 2}, {"start": 8, "end": 10}, {"start": 24, "end": 26}]
    qas = [
        {"query": f"Then @placeholder {verb}.", "idx": first_query + k}
        | ({} if answers is None else {"answers": [{"start": 0, "end": 2, "text": answer} for answer in answers[k]]})
        for k, verb in enumerate(("came", "went"))
    ]
    return {"source": "Daily mail", "passage": {"text": RECORD_TEXT, "entities": entities}, "qas": qas, "idx": index}


def wic(index, **label):
    places = {"start1": 2, "end1": 6, "start2": 0, "end2": 5}
    both = {"sentence1": "A bank by a river.", "sentence2": "Banks lend."}
    return {"word": "bank", **both, "idx": index, **label, **places, "version": 1.1}


def wsc(index, **label):
    target = {"span2_index": 7, "span1_index": 0, "span1_text": "Mark", "span2_text": "he"}
    return {"text": "Mark told Pete many lies, and then he left.", "target": target, "idx": index, **label}


def pair(first, second, index, **label):
    return {"premise": first, "hypothesis": second, **label, "idx": index}


COPA = {"premise": "It rained.", "choice1": "I got wet.", "choice2": "I slept."}
SUPERGLUE = {
    "BoolQ/train.jsonl": lines(
        {"question": "is it so", "passage": "It -- (it) is.", "idx": 0, "label": True},
        {"question": "is it\u2028not", "passage": "No.", "idx": 1, "label": False},  # no end of a line
    ),
    "BoolQ/val.jsonl": lines(
        {"question": "a", "passage": "b", "idx": 0, "label": False},
        {"question": "c", "passage": "d", "idx": 1, "label": True},
    ),
    "BoolQ/test.jsonl": lines({"question": "e", "passage": "f", "idx": 0}, {"question": "g", "passage": "h", "idx": 1}),
    "CB/train.jsonl": lines(
        pair("It was.", "It is.", 0, label="neutral"),
        pair("A: Yes.\nB: No.", "Yes.", 1, label="entailment"),
        pair("I think so.", "No.", 2, label="contradiction"),
    ),
    "CB/val.jsonl": lines(pair("a", "b", 0, label="neutral"), pair("c", "d", 1, label="entailment")),
    "CB/test.jsonl": lines(pair("e", "f", 0), pair("g", "h", 1)),
    "COPA/train.jsonl": lines(
        {**COPA, "question": "effect", "label": 0, "idx": 0},
        {**COPA, "question": "cause", "label": 1, "idx": 1, "changed": False},
    ),
    "COPA/val.jsonl": lines({**COPA, "question": "cause", "label": 1, "idx": 0}),
    "COPA/test.jsonl": lines({**COPA, "question": "effect", "idx": 0}, {**COPA, "question": "cause", "idx": 1}),
    "MultiRC/train.jsonl": lines(multirc(0, [[0, 1], [1]]), multirc(1, [[1, 0], [0]], first=3)),
    "MultiRC/val.jsonl": lines(multirc(0, [[1, 1], [0]])),
    "MultiRC/test.jsonl": lines(multirc(0, [[0, 0], [0]], labelled=False)),
    "ReCoRD/train.jsonl": lines(record(0, [["Ann"], ["Bob"]], 0)),
    "ReCoRD/val.jsonl": lines(record(0, [["Bob", "Bob"], ["Ann"]], 0)),
    "ReCoRD/test.jsonl": lines(record(0, None, 0), record(1, None, 2)),
    "RTE/train.jsonl": lines(pair("a", "b", 0, label="entailment"), pair("c", "d", 1, label="not_entailment")),
    "RTE/val.jsonl": lines(pair("e", "f", 0, label="not_entailment"), pair("g", "h", 1, label="entailment")),
    "RTE/test.jsonl": lines(pair("i", "j", 0), pair("k", "l", 1)),
    "WiC/train.jsonl": lines(wic(0, label=False), wic(1, label=True)),
    "WiC/val.jsonl": lines(wic(0, label=True), wic(1, label=False)),
    "WiC/test.jsonl": lines(wic(0), wic(1)),
    "WSC/train.jsonl": lines(wsc(0, label=True), wsc(1, label=False)),
    "WSC/val.jsonl": lines(wsc(0, label=True), wsc(1, label=False)),
    "WSC/test.jsonl": lines(wsc(0), wsc(1)),
    "AX-b/AX-b.jsonl": lines(
        {"sentence1": "The cat sat.", "sentence2": "It did.", "idx": 0, "label": "entailment", "logic": "Negation"},
        {"sentence1": "A", "sentence2": "B", "idx": 1, "label": "not_entailment"},
    ),
    "AX-g/AX-g.jsonl": lines(
        pair("She came.", "He came.", 0, label="not_entailment", pair_id=276),
        pair("He came.", "He came.", 1, label="entailment", pair_id=276),
    ),
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files of a benchmark; those of Microsoft with \\r\\n."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = "\r\n" if "msr_" in name else "\n"
        path.write_bytes(content.replace("\n", ending).encode())
    return folder
