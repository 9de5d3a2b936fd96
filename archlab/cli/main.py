"""archlab's commands. Bodies import what they need: `describe` starts no torch, pandas, plotly or hydra."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from archlab.cli import complete
from archlab.cli.output import Csv, show
from archlab.cli.screen import html_file, one_model, print_json, say, split_words, stopping, waiting
from archlab.errors import ArchlabError, SpecError

app = typer.Typer(
    help="Architecture exploration for Gemma-style decoders: parameters, FLOPs, KV cache, latency; sweeps and reports.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Words = Annotated[
    list[str],
    typer.Argument(
        help="MODEL (a preset or a YAML file), and key=value to change it",
        show_default=False,
        autocompletion=complete.model,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Context = Annotated[str | None, typer.Option(help="tokens: 8192 or 8k", show_default=False)]


@app.command("models")
def models_command(json: Json = False, csv: Csv = False) -> None:
    """List the models that archlab knows."""
    from archlab.analyzers.params import params
    from archlab.cli.describe import pattern_text
    from archlab.cli.screen import table
    from archlab.presets import load, models
    from archlab.units import show_count, show_tokens

    specs = []
    for name in models():
        try:
            specs.append(load(name))
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


@app.command()
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


@app.command()
def engines(json: Json = False, csv: Csv = False) -> None:
    """List the engines: their options with defaults, and the precisions that they run."""
    from archlab.cli.engines import facts, listing
    from archlab.engines import ENGINES

    show(lambda: [facts(engine) for engine in ENGINES.values()], listing, json, csv)


@app.command()
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


@app.command()
def describe(words: Words, json: Json = False, csv: Csv = False) -> None:
    """The architecture on one screen: layers, parameters by part, KV cache and FLOPs at three contexts."""
    from archlab.cli.describe import facts, screen
    from archlab.presets import load

    model, overrides = one_model(words)
    spec = load(model, overrides)
    show(lambda: facts(spec, overrides), lambda: screen(spec, overrides), json, csv)


@app.command()
def compare(
    words: Annotated[
        list[str] | None, typer.Argument(help="MODEL MODEL ...", show_default=False, autocompletion=complete.model)
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="write the HTML report here")] = None,
    workload: Annotated[
        str | None, typer.Option(help="names of conf/workload; chat-8k,long-128k", autocompletion=complete.workload)
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="names of archlab hardware; h200-sxm,rtx-4090", autocompletion=complete.hardware)
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="a name of conf/precision; bf16", autocompletion=complete.precision)
    ] = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Models side by side: a table here, or the HTML report with -o."""
    from archlab.cli.compare import run_words

    run_words(words or [], out, {"workload": workload, "hardware": hardware, "precision": precision}, json, csv)


@app.command()
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


@app.command()
def fit(
    words: Annotated[
        list[str],
        typer.Argument(
            help="MODEL ..., and key=value to change them", show_default=False, autocompletion=complete.model
        ),
    ],
    hardware: Annotated[
        str | None, typer.Option(help="names of archlab hardware; h200-sxm,rtx-4090", autocompletion=complete.hardware)
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="tokens of a sequence: 32768 or 32k; 8k", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="sequences at once")] = 1,
    images: Annotated[int, typer.Option(min=0, help="images of a sequence, among its tokens")] = 0,
    precision: Annotated[
        str,
        typer.Option(help="a name of conf/precision: bf16, fp8, int4, q4_k_m ...", autocompletion=complete.precision),
    ] = "bf16",
    kv: Annotated[
        str | None,
        typer.Option(
            help="format of the cache: bf16, fp8, q8_0 ...", show_default=False, autocompletion=complete.kv_format
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="a name of archlab engines", autocompletion=complete.engine)] = "ideal",
    engine_option: Annotated[
        list[str] | None, typer.Option(help="key=value, by the engine's own name; may be repeated", show_default=False)
    ] = None,
    tp: Annotated[int, typer.Option(min=1, help="tensor-parallel ranks")] = 1,
    pp: Annotated[int, typer.Option(min=1, help="pipeline stages")] = 1,
    cp: Annotated[int, typer.Option(min=1, help="context-parallel ranks")] = 1,
    ep: Annotated[int, typer.Option(min=1, help="expert-parallel ranks")] = 1,
    dp: Annotated[int, typer.Option(min=1, help="replicas, over which ZeRO divides")] = 1,
    train: Annotated[bool, typer.Option("--train", help="a training step instead of serving")] = False,
    training_option: Annotated[
        list[str] | None, typer.Option(help="key=value: optimizer=adafactor, lora_rank=16 ...", show_default=False)
    ] = None,
    capacity: Annotated[
        str | None, typer.Option(help="bytes to fit into, instead of the device's: 20 GiB", show_default=False)
    ] = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Does it fit? Memory of models on devices, the longest context, the largest batch, and what would make it fit.

    One model on one device shows the whole ledger, several a table. Exit code 1 if one does not fit.
    """
    from archlab.analyzers.memory import setting
    from archlab.cli.fit import ask, facts, matrix, options_of, screen
    from archlab.presets import load
    from archlab.units import tokens

    names, overrides = split_words(words)
    if not names:
        raise SpecError("fit takes a model, or several")
    if hardware is None and capacity is None:
        raise SpecError("fit needs --hardware (archlab hardware lists devices), or --capacity")
    if training_option and not train:
        raise SpecError("--training-option is about a training step; add --train")
    room = int(capacity) if capacity is not None and capacity.isdecimal() else capacity
    options = options_of(engine_option or [], "--engine-option")
    training = options_of(training_option or [], "--training-option") if train else None
    ranks = {"tp": tp, "pp": pp, "cp": cp, "ep": ep, "dp": dp}
    settings = [
        setting(device, precision, engine, ranks, training, kv, room, options)
        for device in (hardware.split(",") if hardware else [None])
    ]
    asked = ask(
        [load(name, overrides) for name in names], settings, batch, None if context is None else tokens(context)
    )
    several = len(asked) > 1
    show(
        lambda: [facts(a) for a in asked] if several else facts(asked[0]),
        lambda: matrix(asked) if several else screen(asked[0]), json, csv,
    )  # fmt: skip
    raise typer.Exit(0 if all(a.answer.fits for a in asked) else 1)


@app.command()
def measure(
    words: Words,
    context: Context = "512",
    batch: Annotated[int, typer.Option(min=1)] = 1,
    phase: Annotated[str, typer.Option(help="prefill, decode or both")] = "both",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the GPU where there is one")] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16; bf16 on a GPU, fp32 on a CPU")] = None,
    backend: Annotated[
        str | None, typer.Option(help="fast or reference; fast where it covers the model", show_default=False)
    ] = None,
    sampled: Annotated[
        bool, typer.Option("--sampled", help="compose the time from models of fewer layers, verified on a deeper one")
    ] = False,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Time prefill and decode of the built module here, beside the bound that this device's measured rates give."""
    from archlab.cli.measure import facts, predictions, screen, time_phases
    from archlab.presets import load
    from archlab.units import tokens

    model, overrides = one_model(words)
    spec = load(model, overrides)
    with waiting(f"building and timing {model}"):
        records = time_phases(spec, tokens(context or "512"), batch, phase, device, dtype, backend, sampled)
    beside = predictions(spec, records)
    show(lambda: facts(records, beside), lambda: screen(records, beside), json, csv)
    raise typer.Exit(int(any(r.status == "failed" for r in records)))


@app.command(
    cls=complete.Sweep,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
)
def sweep(
    context: typer.Context,
    study: Annotated[
        str | None,
        typer.Argument(
            help="a file of sweeps/, by name, or a YAML of your own", show_default=False, autocompletion=complete.study
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run a study, or an ad-hoc sweep: archlab sweep -m model=a,b model.attention.n_kv_heads=1,2,4.

    key=value words and Hydra's flags (-m, --cfg job, --info, --config-dir) go to Hydra. Keys start with their group:
    model, workload, hardware, precision; also hold, where, objectives, rows, measure, out. What is there already is
    not computed again: an interrupted sweep goes on. Ends with an HTML report.
    """
    from archlab.cli.sweep import run_words

    run_words(study, context.args, json)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def search(
    study: Annotated[
        str,
        typer.Argument(
            help="a file of sweeps/, by name, or a YAML of your own", show_default=False, autocompletion=complete.study
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value, as a sweep's; several values are searched",
            show_default=False,
            autocompletion=complete.setting,
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="points to try, an earlier run's counted; 200")] = None,
    sampler: Annotated[str | None, typer.Option(help="nsga2 or tpe; nsga2")] = None,
    seed: Annotated[int | None, typer.Option(help="the same seed, the same trials; 0")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="the search's folder; runs/STUDY/search-HASH if not given")
    ] = None,
    json: Json = False,
) -> None:
    """Search a study's space for its Pareto front: archlab search depth_width hold=null where="memory_bytes < 24 GiB".

    Several objectives at once, by Optuna. A search that was stopped goes on where it was: give the same command again.
    """
    from archlab.cli.search import run_words

    run_words(study, words or [], {"trials": trials, "sampler": sampler, "seed": seed}, out, json)


@app.command(name="tornado")
def tornado_command(
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


@app.command()
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


@app.command()
def explore(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="MODEL ...; every decoder that archlab knows if none is named",
            show_default=False,
            autocompletion=complete.model,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="the HTML file")] = Path("explorer.html"),
    json: Json = False,
) -> None:
    """Write the explorer: a page of sliders that computes a model's numbers in the browser, offline."""
    from archlab.cli.explorer import write_explorer

    names, overrides = split_words(words or [])
    if overrides:
        raise SpecError(
            f"explore takes models, not {next(iter(overrides))}=...; move its slider, or write a YAML (archlab new)"
        )
    path = write_explorer(names, html_file(out), say)
    print_json({"explorer": str(path), "bytes": path.stat().st_size}) if json else print(path)


@app.command()
def report(
    run: Annotated[
        Path | None,
        typer.Argument(help="a run's folder; with --all one of many runs, reports/ if not given", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="the HTML file; RUN/report.html if not given")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="each run of the folder to its index.html, and an index over them")
    ] = False,
    json: Json = False,
) -> None:
    """Render the HTML report of a run again, from its stored results; with --all a gallery of every run in a folder.

    A report is one file. The pages of a gallery share the drawing library, in assets/ beside them.
    """
    from archlab.cli.report import page, pages

    pages(run, out, json) if every else page(run, out, json)


def main(arguments: Any = None) -> None:
    """The console script: exit code 0, 1 (a check failed) or 2 (bad input)."""
    with stopping():
        app(args=arguments)


if __name__ == "__main__":
    main()
