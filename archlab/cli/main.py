"""archlab's commands, in the order of its help. Each imports what it needs: `describe` starts no torch or pandas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from archlab.cli import complete
from archlab.cli.commands.device import fit, measure
from archlab.cli.commands.listing import engines, hardware, models
from archlab.cli.commands.model import check, compare, describe, nearest, new, tornado
from archlab.cli.commands.page import explore, report
from archlab.cli.commands.study import search, sweep
from archlab.cli.screen import stopping

HELP = {"help_option_names": ["-h", "--help"]}
ANY_WORDS = {**HELP, "allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    help="Architecture exploration for Gemma-style decoders: parameters, FLOPs, KV cache, latency; sweeps and reports.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)

COMMANDS: tuple[tuple[str, Callable[..., None], dict[str, Any]], ...] = (
    ("models", models, {}),
    ("hardware", hardware, {}),
    ("engines", engines, {}),
    ("new", new, {}),
    ("describe", describe, {}),
    ("compare", compare, {}),
    ("check", check, {}),
    ("fit", fit, {}),
    ("measure", measure, {}),
    ("sweep", sweep, {"cls": complete.Sweep, "context_settings": ANY_WORDS}),
    ("search", search, {"context_settings": HELP}),
    ("tornado", tornado, {}),
    ("nearest", nearest, {}),
    ("explore", explore, {}),
    ("report", report, {}),
)
for name, command, how in COMMANDS:
    app.command(name, **how)(command)


def main(arguments: Any = None) -> None:
    """The console script: exit code 0, 1 (a check failed) or 2 (bad input)."""
    with stopping():
        app(args=arguments)


if __name__ == "__main__":
    main()
