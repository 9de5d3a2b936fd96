"""archlab models, hardware and engines: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from archlab.cli import complete
from archlab.cli.options import Csv, Json
from archlab.cli.output import show
from archlab.cli.screen import say
from archlab.errors import ArchlabError


def models(json: Json = False, csv: Csv = False) -> None:
    """List the models that archlab knows."""
    from archlab import presets
    from archlab.analyzers.params import params
    from archlab.cli.describe import pattern_text
    from archlab.cli.screen import table
    from archlab.units import show_count, show_tokens

    specs = []
    for name in presets.models():
        try:
            specs.append(presets.load(name))
        except ArchlabError as problem:  # one bad file of the user's does not hide the others
            say(f"archlab: {name}: {problem}")

    def screen() -> str:
        rows = [[s.name, s.family, show_count(params(s).total), show_tokens(s.context), pattern_text(s)] for s in specs]
        return table(["model", "family", "parameters", "context", "layers"], rows, left=(0, 1, 4))

    keys = ("name", "family", "params", "context")
    show(
        lambda: [dict(zip(keys, (s.name, s.family, params(s).total, s.context), strict=True)) for s in specs],
        screen, json, csv,
    )  # fmt: skip


def hardware(
    name: Annotated[
        str | None,
        typer.Argument(
            help="a device, or the path of a YAML that describes one",
            show_default=False,
            autocompletion=complete.hardware,
        ),
    ] = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """List devices, or show one: memory, bandwidth, peak rates, links, price, and where each comes from."""
    from archlab.cli.devices import facts, listing, screen
    from archlab.hardware import hardware_names, is_path, load_hardware
    from archlab.paths import group_files

    if name is not None:
        device = load_hardware(name)
        path = name if is_path(name) else str(group_files("hardware")[name])
        return show(lambda: facts(device), lambda: screen(device, path), json, csv)
    devices = []
    for known in hardware_names():
        try:
            devices.append(load_hardware(known))
        except ArchlabError as problem:  # one bad file of the user's does not hide the others
            say(f"archlab: {known}: {problem}")
    show(lambda: [facts(d) for d in devices], lambda: listing(devices), json, csv)


def engines(json: Json = False, csv: Csv = False) -> None:
    """List the engines: their options with defaults, and the precisions that they run."""
    from archlab.cli.engines import facts, listing
    from archlab.engines import ENGINES

    show(lambda: [facts(engine) for engine in ENGINES.values()], listing, json, csv)
