"""archlab fit and measure: a model on a device."""

from __future__ import annotations

from typing import Annotated

import typer

from archlab.cli.options import (
    Batch,
    CacheFormat,
    Capacity,
    Context,
    ContextParallel,
    Csv,
    Devices,
    EngineName,
    EngineOption,
    ExpertParallel,
    Formats,
    Images,
    Json,
    ManyWords,
    Pipeline,
    Replicas,
    SequenceTokens,
    TensorParallel,
    Train,
    TrainingOption,
    Words,
)
from archlab.cli.output import show
from archlab.cli.screen import one_model, waiting


def fit(
    words: ManyWords,
    hardware: Devices = None,
    context: SequenceTokens = None,
    batch: Batch = 1,
    images: Images = 0,
    precision: Formats = "bf16",
    kv: CacheFormat = None,
    engine: EngineName = "ideal",
    engine_option: EngineOption = None,
    tp: TensorParallel = 1,
    pp: Pipeline = 1,
    cp: ContextParallel = 1,
    ep: ExpertParallel = 1,
    dp: Replicas = 1,
    train: Train = False,
    training_option: TrainingOption = None,
    capacity: Capacity = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Does it fit? Memory of models on devices, the longest context, the largest batch, and what would make it fit.

    One model on one device shows the whole ledger, several a table. Exit code 1 if one does not fit.
    """
    from archlab.cli.fit_words import Told, run_words

    ranks = {"tp": tp, "pp": pp, "cp": cp, "ep": ep, "dp": dp}
    told = Told(
        hardware, capacity, context, batch, images, precision, kv, engine, engine_option or [],
        ranks, train, training_option or [],
    )  # fmt: skip
    run_words(words, told, json, csv)


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
