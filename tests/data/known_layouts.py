"""Files in the layouts of well-known data sets, with content of our own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

NLI = ("entailment", "neutral", "contradiction")
PREMISES = [f"A person number {i} rides a bicycle through the town." for i in range(20)]
HYPOTHESES = [f"Somebody is moving along street {i}." for i in range(40)]


def table(
    path: Path, rows: Sequence[Mapping[str, object]], separator: str = ",", header: bool = True
) -> Path:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator)
    if header:
        writer.writerow(rows[0])
    writer.writerows([row.values() for row in rows])
    path.write_text(out.getvalue(), encoding="utf-8")
    return path


def raw(path: Path, rows: Sequence[Mapping[str, object]], header: bool = True) -> Path:
    """Cells between tabs without any quoting, as most data sets of the field are written."""
    head = ["\t".join(rows[0])] if header else []
    lines = head + ["\t".join(map(str, row.values())) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(
    labels: Sequence[object], first: str, second: str, label: str, **more: object
) -> list[dict[str, object]]:
    return [
        {first: PREMISES[i % 20], second: HYPOTHESES[i], label: labels[i % len(labels)], **more}
        for i in range(40)
    ]


def ordered(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: row[name] for name in names} for row in rows]


def snli_row(row: Mapping[str, object], number: int) -> dict[str, object]:
    one, two = str(row["sentence1"]), str(row["sentence2"])
    return {
        "gold_label": row["gold_label"],
        "sentence1_binary_parse": f"( {one} )",
        "sentence2_binary_parse": f"( {two} )",
        "sentence1_parse": f"(ROOT (S {one}))",
        "sentence2_parse": f"(ROOT (S {two}))",
        "sentence1": 'He said "go" and ' + one if number == 4 else one,
        "sentence2": two,
        "captionID": f"{number % 4}.jpg#0",
        "pairID": f"{number}.jpg#0r1e",
        "label1": row["gold_label"],
        "label2": "",
    }


def snli(path: Path) -> Path:
    rows = pairs([*NLI, "-"], "sentence1", "sentence2", "gold_label")
    return raw(path, [snli_row(row, i) for i, row in enumerate(rows)])


def snli_lines(path: Path) -> Path:
    rows = pairs([*NLI, "-"], "sentence1", "sentence2", "gold_label")
    return jsonl(
        path,
        [
            {"annotator_labels": ["neutral", "entailment"], **snli_row(r, i)}
            for i, r in enumerate(rows)
        ],
    )


def esnli(path: Path) -> Path:
    rows = pairs(NLI, "Sentence1", "Sentence2", "gold_label")
    return table(
        path,
        [
            {
                "pairID": f"{i}.jpg#1r1n",
                "gold_label": row["gold_label"],
                "Sentence1": row["Sentence1"],
                "Sentence2": row["Sentence2"],
                "Explanation_1": "Riding is moving.",
                "Sentence1_marked_1": f"*{row['Sentence1']}*",
                "Sentence2_marked_1": f"*{row['Sentence2']}*",
                "Sentence1_Highlighted_1": "1,2",
                "Sentence2_Highlighted_1": "{}",
                "Explanation_2": "Who rides a bicycle moves.",
                "Explanation_3": "It is motion.",
            }
            for i, row in enumerate(rows)
        ],
    )


def multinli(path: Path) -> Path:
    rows = pairs(NLI, "sentence1", "sentence2", "gold_label")
    return jsonl(
        path,
        [
            {
                "annotator_labels": [row["gold_label"]] * 5,
                "genre": ("fiction", "travel")[i % 2],
                **snli_row(row, i),
                "promptID": str(i % 4),
            }
            for i, row in enumerate(rows)
        ],
    )


def xnli(path: Path) -> Path:
    rows = pairs(["entailment", "neutral", "contradiction"], "sentence1", "sentence2", "gold_label")
    return raw(
        path,
        [
            {
                "language": ("de", "fr")[i % 2],
                "gold_label": row["gold_label"],
                "sentence1_binary_parse": "",
                "sentence2_binary_parse": "",
                "sentence1": row["sentence1"],
                "sentence2": row["sentence2"],
                "promptID": i,
                "pairID": i,
                "genre": "travel",
                "label1": row["gold_label"],
                "match": "True",
            }
            for i, row in enumerate(rows)
        ],
    )


def scitail(path: Path) -> Path:
    return raw(path, pairs(["entails", "neutral"], "a", "b", "c"), header=False)


def sick(path: Path) -> Path:
    rows = pairs(["NEUTRAL", "ENTAILMENT", "CONTRADICTION"], "sentence_A", "sentence_B", "judgment")
    return raw(
        path,
        [
            {
                "pair_ID": i,
                "sentence_A": row["sentence_A"],
                "sentence_B": row["sentence_B"],
                "relatedness_score": 1 + i / 3,
                "entailment_judgment": row["judgment"],
            }
            for i, row in enumerate(rows)
        ],
    )


def rte(path: Path) -> Path:
    rows = pairs(["entailment", "not_entailment"], "sentence1", "sentence2", "label")
    return raw(path, [{"index": i, **row} for i, row in enumerate(rows)])


def boolq(path: Path) -> Path:
    return jsonl(
        path,
        [
            {
                "question": f"is town number {i} by the sea",
                "title": f"Town {i // 2}",
                "answer": i % 3 == 0,
                "passage": f"Town {i // 2} is a place with a market and a harbour.",
            }
            for i in range(12)
        ],
    )


def ag_news(path: Path) -> Path:
    return table(
        path,
        [
            {
                "Class Index": 1 + i % 4,
                "Title": f"Team {i} wins",
                "Description": f"On day {i} the team won, as its coach had hoped.",
            }
            for i in range(12)
        ],
    )


def ag_news_bare(path: Path) -> Path:
    rows = [
        (1 + i % 4, f"Team {i} wins again", f"On day {i} the team won, as was hoped.")
        for i in range(12)
    ]
    return table(path, [dict(zip("abc", row, strict=True)) for row in rows], header=False)


def banking(path: Path) -> Path:
    """Sorted by label, 77 of them, and far more rows than are looked at first."""
    rows = [
        {"text": f"How do I do thing {k} with my card, please? ({i})", "category": f"intent_{k}"}
        for k in range(77)
        for i in range(30)
    ]
    return table(path, rows)


def label_studio(path: Path) -> Path:
    def result(choice: str) -> dict[str, Any]:
        return {
            "id": f"r{choice}",
            "type": "choices",
            "value": {"choices": [choice]},
            "to_name": "text",
            "from_name": "sentiment",
            "origin": "manual",
        }

    tasks = [
        {
            "id": i,
            "annotations": [
                {
                    "id": 100 + i,
                    "completed_by": 1 + i % 2,
                    "result": [result(("Happy", "Unhappy")[i % 2])],
                    "was_cancelled": False,
                    "lead_time": 3.5 + i,
                }
            ]
            if i < 10
            else [],
            "data": {"text": f"The parcel number {i} came on time or did not."},
            "created_at": f"2026-01-0{1 + i % 9}T10:00:00Z",
            "project": 5,
        }
        for i in range(12)
    ]
    path.write_text(json.dumps(tasks, indent=1), encoding="utf-8")
    return path


def label_studio_table(path: Path) -> Path:
    return table(
        path,
        [
            {
                "annotation_id": 100 + i,
                "annotator": 1 + i % 2,
                "created_at": f"2026-01-0{1 + i % 9}T10:00:00Z",
                "id": i,
                "lead_time": 2.5 + i,
                "sentiment": ("Happy", "Unhappy")[i % 2],
                "text": f"The parcel number {i} came on time or did not.",
                "updated_at": f"2026-02-0{1 + i % 9}T10:00:00Z",
            }
            for i in range(12)
        ],
    )


PAIR = {"premise", "hypothesis"}
LAYOUTS: dict[str, tuple[Callable[[Path], Path], str | None, set[str], int, int]] = {
    # file: (writer, preset, fields, labels, labelled rows)
    "snli.txt": (snli, "nli", PAIR, 3, 30),
    "snli.jsonl": (snli_lines, "nli", PAIR, 3, 30),
    "esnli.csv": (esnli, "nli", PAIR, 3, 40),
    "multinli.jsonl": (multinli, "nli", PAIR, 3, 40),
    "xnli.tsv": (xnli, "nli", PAIR, 3, 40),
    "scitail.tsv": (scitail, None, PAIR, 2, 40),
    "SICK.txt": (sick, "nli", PAIR, 3, 40),
    "rte.tsv": (rte, None, PAIR, 2, 40),
    "boolq.jsonl": (boolq, "yes_no", {"passage", "question"}, 2, 12),
    "ag_news.csv": (ag_news, None, {"Title", "Description"}, 4, 12),
    "ag_news_bare.csv": (ag_news_bare, None, {"text1", "text2"}, 4, 12),
    "banking.csv": (banking, None, {"text"}, 77, 2310),
    "studio.json": (label_studio, None, {"text"}, 2, 10),
    "studio.csv": (label_studio_table, None, {"text"}, 2, 12),
}
