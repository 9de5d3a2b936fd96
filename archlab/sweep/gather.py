"""A sweep's blocks as the tables of a run: points, curves, layers, marginals, measured; run.json, and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from archlab.analyzers.diagram import diagram
from archlab.analyzers.memory import TIGHT
from archlab.analyzers.special import short
from archlab.errors import ArchlabError
from archlab.evidence import evidence, evidence_axes
from archlab.presets import is_released
from archlab.report.thin import evenly, scattered
from archlab.sweep.argv import Command
from archlab.sweep.axes import show_value
from archlab.sweep.block import Block, Point, read_block, run_block, standing_points, workloads_of
from archlab.sweep.joblog import entries
from archlab.sweep.marginals import merged
from archlab.sweep.pareto import front, parse_objective
from archlab.sweep.provenance import provenance
from archlab.sweep.quality import join_quality
from archlab.sweep.results import (
    MOST_CURVES,
    assumptions,
    curve_rows,
    device_facts,
    engine_facts,
    formulas,
    frame_of,
    layer_rows,
    precision_facts,
    short_key,
    write_run,
)  # fmt: skip
from archlab.sweep.served import of_blocks
from archlab.sweep.serving_tables import serving_tables
from archlab.sweep.store import StoreError, read_config, read_marginals, read_part, set_aside
from archlab.sweep.timing import measured_table
from archlab.workload import Workload

Say = Callable[[str], None]

PLACE = ["workload", "hardware", "precision", "engine"]
"""What makes two points comparable: a front is of points that run the same work in the same place."""


@dataclass(frozen=True)
class Outcome:
    """A finished sweep: its folder, the report, its rows, how many points they stand for, and what was timed."""

    folder: Path
    report: Path
    points: pd.DataFrame
    measured: pd.DataFrame | None
    computed: int
    fresh: int
    excluded: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Part:
    """A stored part of a block."""

    block: Block
    name: str
    rows: pd.DataFrame
    marginals: pd.DataFrame | None


def gather(folder: Path, logs: Path, command: Command, spoken_as: str, started: datetime, say: Say) -> Outcome:
    """Blocks into tables, then run.json and the report; `logs` say which blocks. Raises ArchlabError."""
    done = entries(logs)
    refused = [entry for entry in done if "reason" in entry or "failed" in entry]
    parts = [*_parts(folder / "blocks", _in_order(done), spoken_as, say)]
    blocks = _blocks(folder / "blocks", parts, refused)
    points = pd.concat([*(part.rows for part in parts), *_refused_rows(refused)], ignore_index=True)
    points = points.assign(**{key: None for key in blocks[0].grid if key not in points.columns})
    points = _marked(points, blocks[0])
    notes: list[str] = []
    if command.quality:
        joined = join_quality(points, command.quality)
        points, notes = joined.frame, [*joined.notes]
        for note in notes:
            say(note)
    drawn = _standing(parts, points)
    tables = {
        "points": points,
        "curves": frame_of([row for name, p in drawn.items() for row in curve_rows(name, p.base, p.spec)]),
        "layers": frame_of([row for name, p in drawn.items() for row in layer_rows(name, p.spec)]),
    }
    tables |= serving_tables(of_blocks({name: p.spec for name, p in drawn.items()}, blocks, points))
    if (effects := _marginals(parts)) is not None:
        tables["marginals"] = effects
    measured = measured_table(folder, command, drawn, lambda: _workloads(parts), say)
    if measured is not None:
        tables["measured"] = measured
    computed, excluded, stood = (sum(e.get(k, 0) for e in done if "part" in e) for k in ("points", "excluded", "ok"))
    counts = {"computed": computed, "excluded": excluded, "refused": computed - stood}
    facts = provenance(spoken_as, started, [dict(block.config) for block in blocks])
    run = _run_facts(command, blocks) | counts | {"notes": notes, "provenance": facts}
    write_run(folder, run, tables)
    fresh = sum(entry["points"] for entry in done if entry.get("fresh"))
    return Outcome(folder, _render(folder), points, measured, computed, fresh, excluded, computed - stood)


def _in_order(done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts block by block, as one job would have stored them: the same rows wherever they were computed."""
    stored = [entry for entry in done if "part" in entry]
    blocks = {name: n for n, name in enumerate(dict.fromkeys(entry["block"] for entry in stored))}
    return sorted(stored, key=lambda entry: (blocks[entry["block"]], entry["number"]))


def _parts(folder: Path, done: list[dict[str, Any]], spoken_as: str, say: Say) -> Iterator[Part]:
    """The stored parts, with their rows of note; one that cannot be read is computed again."""
    blocks: dict[str, Block] = {}
    for entry in done:
        name, part = entry["block"], entry["part"]
        if name not in blocks:
            blocks[name] = read_block(read_config(folder, name))
        try:
            yield _read(folder, blocks[name], part)
        except StoreError as problem:
            say(f"{problem}; computing it again")
            set_aside(folder, part)
            for _ in run_block(blocks[name], folder, made={"command": spoken_as}):  # the others are there
                pass
            yield _read(folder, blocks[name], part)


def _read(folder: Path, block: Block, name: str) -> Part:
    kept = block.wanted.sample > 0 and block.wanted.rows == "all"
    return Part(block, name, read_part(folder, name, kept=kept), read_marginals(folder, name))


def _blocks(folder: Path, parts: list[Part], refused: list[dict[str, Any]]) -> list[Block]:
    """The blocks of a run, each once. Raises ArchlabError where all were wrong, or nothing is known of them."""
    if not parts:
        failed = [read_block(read_config(folder, entry["config"])) for entry in refused if "config" in entry]
        if not failed:
            raise ArchlabError(next(entry.get("reason") or entry["failed"] for entry in refused))
        return failed
    return [*{part.block.name: part.block for part in parts}.values()]


def _marked(points: pd.DataFrame, block: Block) -> pd.DataFrame:
    """With `front`: whether a point that stands is on the front of the objectives among those of its place.

    Of a large run only some places have fronts (see notable): those of which rows were kept as their part's. What was
    kept only for that and is not on the whole front is left out.
    """
    objectives = [o for o in map(parse_objective, block.wanted.objectives) if o.name in points.columns]
    points = points.assign(front=False)
    if objectives:
        good = points[(points["status"] == "ok")].dropna(subset=[o.name for o in objectives])
        for _, same in good.groupby(PLACE, sort=False, dropna=False):
            if block.wanted.sample and not same["kept"].str.contains("front").any():
                continue
            values = same[[o.name for o in objectives]].to_numpy(dtype=np.float64)
            best = front(values, [o.sense for o in objectives])
            points.loc[same.index[best], "front"] = True
    if block.wanted.sample and "kept" in points.columns:
        points = points[points["front"] | (points["kept"] != "front")].reset_index(drop=True)
    return points.drop(columns="kept", errors="ignore")


def _standing(parts: list[Part], points: pd.DataFrame) -> dict[str, Point]:
    """As many points that stand as are drawn, in the order of the run."""
    names = drawn_names(points, MOST_CURVES)
    found: dict[str, Point] = {}
    for part in parts:
        firsts = part.rows[part.rows["point"].isin(names - found.keys()) & (part.rows["status"] == "ok")]
        found |= dict(standing_points(part.block, firsts.drop_duplicates("point"), MOST_CURVES))
    return found


def drawn_names(points: pd.DataFrame, most: int) -> set[str]:
    """Points to draw, all of them while they are few: else bases, some of the fronts, and a spread of the others."""
    standing = points[points["status"] == "ok"]
    names = standing["point"].drop_duplicates()
    if len(names) <= most:
        return set(names)
    kept: set[str] = set()
    for which, share in (("is_base", 2), ("front", 3)):
        kept |= set(evenly(standing.loc[standing[which].eq(True), "point"].drop_duplicates(), most // share))
    return kept | set(scattered([name for name in names if name not in kept], max(most - len(kept), 0)))


def _workloads(parts: list[Part]) -> dict[str, Workload]:
    """All workloads of the rows, by name."""
    return {name: work for part in parts for name, work in workloads_of(part.block, part.rows)}


def _marginals(parts: list[Part]) -> pd.DataFrame | None:
    """What columns are at each value of each axis, over all points of each base and place."""
    found = []
    for part in parts:
        if part.marginals is not None:
            block = part.block
            place = {"workload": block.workload, "hardware": block.device.name, "precision": block.precision.name}
            found.append(part.marginals.assign(base=block.base, **place, engine=block.engine_name))
    if not found:
        return None
    rows = merged(found, ["column", "base", *PLACE])
    values = {" ".join(k.removeprefix("model.") for k in [key]): v for key, v in parts[0].block.grid.items()}
    rows["value"] = [
        show_value(values[k][i]) if k in values else i for k, i in zip(rows["key"], rows["position"], strict=True)
    ]
    kinds = {type(v) for v in rows["value"]}
    return rows if kinds <= {int, float} else rows.assign(value=rows["value"].astype(str))


def _refused_rows(refused: list[dict[str, str]]) -> list[pd.DataFrame]:
    if not refused:
        return []
    rows = [
        {k: v for k, v in r.items() if k not in ("failed", "ends", "config", "model")}
        | {"point": r["model"], "base": r["model"], "is_base": False}
        | {"status": "failed" if "failed" in r else "refused", "reason": r.get("reason") or r["failed"]}
        for r in refused
    ]  # fmt: skip
    return [pd.DataFrame(rows)]


def _run_facts(command: Command, blocks: list[Block]) -> dict[str, Any]:
    first = blocks[0]
    return {
        "kind": "study",
        "name": command.name,
        "question": command.study.question if command.study else "What changes from point to point?",
        "axes": [
            {"key": k, "label": short_key(k), "values": [show_value(v) for v in vs]} for k, vs in first.grid.items()
        ],
        "hold": first.hold,
        "hold_by": first.hold_by,
        "hold_multiple": first.budget.multiple if first.budget else first.hold_multiple,
        "objectives": list(first.wanted.objectives),
        "where": list(first.wanted.where),
        "rows": first.wanted.rows,
        "sampled": first.wanted.sample > 0,
        "evidence": _evidence(command),
        "bases": list(dict.fromkeys(block.base for block in blocks)),
        "unreleased": [base for base in dict.fromkeys(block.base for block in blocks) if not is_released(base)],
        "hardware": {block.device.name: device_facts(block.device) for block in blocks},
        "workloads": {block.workload: asdict(block.serving) for block in blocks},
        "precisions": {block.precision.name: precision_facts(block.precision) for block in blocks},
        "engines": {block.engine_name: engine_facts(block.engine) for block in blocks},
        "tight": TIGHT,
        "formulas": formulas({block.base: block.spec for block in blocks}, _moved(first)),
        "diagrams": [diagram(spec) | {"name": base} for base, spec in {b.base: b.spec for b in blocks}.items()],
        "special": {block.base: ", ".join(short(block.spec)) for block in blocks if short(block.spec)},
        "assumptions": [*assumptions([block.engine for block in blocks]), *_held(first)],
    }


def _moved(block: Block) -> list[str]:
    """Keys of the model that differ from point to point: the axes, and what is rescaled to hold something."""
    held = [block.budget.by] if block.budget else []
    return [key.removeprefix("model.") for axis in block.grid for key in axis.split()] + held


def _held(block: Block) -> list[str]:
    if block.budget is None:
        return []
    at = f" at {block.config['hold_workload']}"
    what = {"params": "parameters", "flops": f"prefill FLOPs{at}", "kv_cache": f"KV cache{at}", "memory": f"memory{at}"}
    held = block.budget
    return [
        f"Each point's {held.short} is rescaled to hold the base's {what[held.name]}, to the nearest multiple of "
        f"{held.multiple}."
    ]


def _evidence(command: Command) -> list[dict[str, Any]]:
    """What is published about the quality that the study's axis costs: cited, not measured here."""
    axis = command.axis
    if axis not in evidence_axes():
        return []
    return [
        {"sentence": fact.sentence, "title": fact.cited.title, "year": fact.year, "url": fact.url, "kind": fact.kind}
        for fact in evidence(axis)
    ]


def _render(folder: Path) -> Path:
    from archlab.report import render

    return render(folder)
