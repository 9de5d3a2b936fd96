"""archlab sweep and search: a design space, by a study or by words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archlab.cli import complete
from archlab.cli.options import Json, Study


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


def search(
    study: Study,
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
