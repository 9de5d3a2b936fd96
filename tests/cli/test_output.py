"""One answer in three forms: CSV against JSON, and what archlab report says beside the path."""

import csv
import io
import json

import pytest

COMMANDS = [
    ["models"],
    ["hardware"],
    ["hardware", "l4"],
    ["engines"],
    ["describe", "gemma-3-1b", "local.window=128"],
    ["compare", "gemma-2-9b", "gemma-4-26b-a4b"],
    ["fit", "gemma-3-1b", "--hardware", "l4,t4"],
    ["fit", "gemma-3-1b", "--hardware", "l4"],
    ["tornado", "gemma-3-1b", "--metric", "params"],
    ["nearest", "gemma-2-9b", "n_layers=30"],
]


def leaves(value):
    """Every number, text and truth value of a document, lists of plain values as one."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


def read(text):
    """A cell as JSON has it, text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_csv_has_what_json_has(words, archlab_command):
    document = json.loads(archlab_command(*words, "--json").out)
    done = archlab_command(*words, "--csv")
    assert done.code == 0 and done.err == ""
    rows = list(csv.DictReader(io.StringIO(done.out)))
    records = document if isinstance(document, list) else [document]
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        numbers = sorted(x for x in leaves(record) if isinstance(x, int | float) and not isinstance(x, bool))
        found = sorted(x for x in map(read, row.values()) if isinstance(x, int | float) and not isinstance(x, bool))
        assert set(numbers) <= set(found)
        assert {str(x) for x in leaves(record) if isinstance(x, str)} <= set(row.values())


@pytest.mark.parametrize("more", [[], ["--memory"]])
def test_check_has_a_row_a_line_of_its_table(more, archlab_command):
    words = ["check", "gemma-3-270m", "n_layers=2", "--context", "64", *more]
    document = json.loads(archlab_command(*words, "--json").out)
    rows = list(csv.DictReader(io.StringIO(archlab_command(*words, "--csv").out)))
    key, size = ("step", "total") if more else ("what", "closed_form")
    lines = document["steps" if more else "checks"]
    assert [(row[key], int(row[size])) for row in rows] == [(line[key], line[size]) for line in lines]
    assert {row["model"] for row in rows} == {"gemma-3-270m"}


def test_records_go_by_what_they_are_called(archlab_command):
    row = next(csv.DictReader(io.StringIO(archlab_command("describe", "gemma-2-9b", "--csv").out)))
    facts = json.loads(archlab_command("describe", "gemma-2-9b", "--json").out)
    at = {a["context"]: a for a in facts["at_context"]}
    assert int(row["at_context.131072.kv_cache_bytes_bf16"]) == at[131072]["kv_cache_bytes_bf16"]
    assert int(row["params_by_part.embedding"]) == facts["params_by_part"]["embedding"]
    assert row["pattern"] == "local global" and row["tied"] == "true" and row["notes"] != ""


def test_two_forms_at_once_are_refused(archlab_command):
    done = archlab_command("models", "--json", "--csv")
    assert done.code == 2 and "give one of them" in done.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["report"], "takes a run's folder"),
        (["report", "--all"], "there is no folder 'reports' here"),
        (["report", "--all", "nowhere"], "there is no folder 'nowhere'"),
        (["report", "--all", "."], "holds no run"),
        (["report", "--all", ".", "-o", "x.html"], "leave --out out"),
    ],
)
def test_what_report_refuses(words, sentence, archlab_command):
    done = archlab_command(*words)
    assert done.code == 2 and sentence in done.err and len(done.err.strip().splitlines()) == 1
