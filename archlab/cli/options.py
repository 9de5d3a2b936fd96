"""Arguments and options as several commands take them, and the long list of `fit`: type, help, what TAB offers."""

from __future__ import annotations

from typing import Annotated

import typer

from archlab.cli import complete

Words = Annotated[
    list[str],
    typer.Argument(
        help="MODEL (a preset or a YAML file), and key=value to change it",
        show_default=False,
        autocompletion=complete.model,
    ),
]
ManyWords = Annotated[
    list[str],
    typer.Argument(help="MODEL ..., and key=value to change them", show_default=False, autocompletion=complete.model),
]
Study = Annotated[
    str,
    typer.Argument(
        help="a file of sweeps/, by name, or a YAML of your own", show_default=False, autocompletion=complete.study
    ),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Csv = Annotated[bool, typer.Option("--csv", help="CSV on stdout, numbers in base units, headed by the JSON's keys")]
Context = Annotated[str | None, typer.Option(help="tokens: 8192 or 8k", show_default=False)]
Devices = Annotated[
    str | None, typer.Option(help="names of archlab hardware; h200-sxm,rtx-4090", autocompletion=complete.hardware)
]

# ---------------------------------------------------------------- of fit

SequenceTokens = Annotated[str | None, typer.Option(help="tokens of a sequence: 32768 or 32k; 8k", show_default=False)]
Batch = Annotated[int, typer.Option(min=1, help="sequences at once")]
Images = Annotated[int, typer.Option(min=0, help="images of a sequence, among its tokens")]
Formats = Annotated[
    str, typer.Option(help="a name of conf/precision: bf16, fp8, int4, q4_k_m ...", autocompletion=complete.precision)
]
CacheFormat = Annotated[
    str | None,
    typer.Option(
        help="format of the cache: bf16, fp8, q8_0 ...", show_default=False, autocompletion=complete.kv_format
    ),
]
EngineName = Annotated[str, typer.Option(help="a name of archlab engines", autocompletion=complete.engine)]
EngineOption = Annotated[
    list[str] | None, typer.Option(help="key=value, by the engine's own name; may be repeated", show_default=False)
]
TensorParallel = Annotated[int, typer.Option(min=1, help="tensor-parallel ranks")]
Pipeline = Annotated[int, typer.Option(min=1, help="pipeline stages")]
ContextParallel = Annotated[int, typer.Option(min=1, help="context-parallel ranks")]
ExpertParallel = Annotated[int, typer.Option(min=1, help="expert-parallel ranks")]
Replicas = Annotated[int, typer.Option(min=1, help="replicas, over which ZeRO divides")]
Train = Annotated[bool, typer.Option("--train", help="a training step instead of serving")]
TrainingOption = Annotated[
    list[str] | None, typer.Option(help="key=value: optimizer=adafactor, lora_rank=16 ...", show_default=False)
]
Capacity = Annotated[
    str | None, typer.Option(help="bytes to fit into, instead of the device's: 20 GiB", show_default=False)
]
