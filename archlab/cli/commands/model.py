"""archlab new, describe, compare, check, tornado and nearest: what a model is made of, and what moves its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archlab.cli import complete
from archlab.cli.options import Context, Csv, Devices, Json, Words
from archlab.cli.output import show
from archlab.cli.screen import one_model, print_json, say, waiting
from archlab.errors import SpecError


def new(
    name: Annotated[str, typer.Argument(help="name of the model; NAME.yaml is written here")],
    start: Annotated[str, typer.Option("--from", help="the model to start from", autocompletion=complete.model)],
    json: Json = False,
) -> None:
    """Write a model YAML to edit, its fields explained."""
    from archlab.cli.new import template, write_template
    from archlab.presets import load

    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise SpecError(f"{name!r} is not a name for a model; use letters, digits, - and _")
    path = Path(f"{name.removesuffix('.yaml')}.yaml")
    write_template(path, template(path.stem, load(start)))
    if json:
        return print_json({"path": str(path), "from": start})
    print(path)
    say(f"edit it, then: archlab describe {path}")


def describe(words: Words, json: Json = False, csv: Csv = False) -> None:
    """The architecture on one screen: layers, parameters by part, KV cache and FLOPs at three contexts."""
    from archlab.cli.describe import facts, screen
    from archlab.presets import load

    model, overrides = one_model(words)
    spec = load(model, overrides)
    show(lambda: facts(spec, overrides), lambda: screen(spec, overrides), json, csv)


def compare(
    words: Annotated[
        list[str] | None, typer.Argument(help="MODEL MODEL ...", show_default=False, autocompletion=complete.model)
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="write the HTML report here")] = None,
    workload: Annotated[
        str | None, typer.Option(help="names of conf/workload; chat-8k,long-128k", autocompletion=complete.workload)
    ] = None,
    hardware: Devices = None,
    precision: Annotated[
        str | None, typer.Option(help="a name of conf/precision; bf16", autocompletion=complete.precision)
    ] = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Models side by side: a table here, or the HTML report with -o."""
    from archlab.cli.compare import run_words

    run_words(words or [], out, {"workload": workload, "hardware": hardware, "precision": precision}, json, csv)


def check(
    words: Words,
    context: Context = None,
    batch: Annotated[int, typer.Option(min=1, help="sequences")] = 1,
    memory: Annotated[bool, typer.Option("--memory", help="peak memory instead, by torch's memory tracker")] = False,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Hold the closed forms against the traced module (fvcore, FlopCounterMode, memory tracker), without a GPU."""
    from archlab.cli.check import audited, records, tracked
    from archlab.presets import load
    from archlab.units import tokens

    model, overrides = one_model(words)
    work = tracked if memory else audited
    with waiting(f"building {model} on the meta device and tracing it"):
        ok, document, screen = work(load(model, overrides), None if context is None else tokens(context), batch)
    show(lambda: records(document) if csv else document, screen, json, csv)
    raise typer.Exit(0 if ok else 1)


def tornado(
    words: Words,
    workload: Annotated[
        str, typer.Option(help="a file of conf/workload", autocompletion=complete.workload)
    ] = "chat-8k",
    hardware: Annotated[
        str | None,
        typer.Option(help="a device, for bounds and memory", show_default=False, autocompletion=complete.hardware),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="a file of conf/precision", autocompletion=complete.precision)
    ] = "bf16",
    metric: Annotated[
        list[str] | None, typer.Option(help="a column of a sweep; give it several times", show_default=False)
    ] = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Show what moves a model's numbers: each size halved and doubled alone, the largest change first."""
    from archlab.cli.explore import bars, records, sensitivity
    from archlab.config import load_workload
    from archlab.presets import load

    model, overrides = one_model(words)
    spec = load(model, overrides)
    rows = sensitivity(spec, load_workload(workload, spec), hardware, precision, metric or [])
    show(lambda: records(rows), lambda: bars(rows), json, csv)


def nearest(
    words: Words,
    count: Annotated[int, typer.Option("-k", help="how many", min=1)] = 3,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Name the released models nearest to a shape, and what differs: archlab nearest gemma-2-9b n_layers=30."""
    from dataclasses import asdict

    from archlab.cli.explore import listing, neighbours
    from archlab.presets import load

    model, overrides = one_model(words)
    found = neighbours(load(model, overrides), count)
    show(lambda: [asdict(n) for n in found], lambda: listing(found), json, csv)
