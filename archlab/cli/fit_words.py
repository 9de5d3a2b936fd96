"""The words of archlab fit: models, and the settings that they are to fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archlab import yamlfile
from archlab.analyzers.memory import Setting, setting
from archlab.cli.fit import Asked, ask, facts, matrix, screen
from archlab.cli.output import show
from archlab.cli.screen import split_words
from archlab.errors import SpecError
from archlab.presets import load
from archlab.sweep.naming import check_names
from archlab.units import tokens


@dataclass(frozen=True)
class Told:
    """The options, as they were typed."""

    hardware: str | None
    capacity: str | None
    context: str | None
    batch: int
    images: int
    precision: str
    kv: str | None
    engine: str
    engine_options: Sequence[str]
    ranks: Mapping[str, int]
    train: bool
    training_options: Sequence[str]


def run_words(words: Sequence[str], told: Told, json: bool, csv: bool) -> None:
    """The ledger of one, or the table of several; exit code 1 where one does not fit. Raises ArchlabError."""
    asked = answers(words, told)
    several = len(asked) > 1
    show(
        lambda: [facts(a) for a in asked] if several else facts(asked[0]),
        lambda: matrix(asked) if several else screen(asked[0]), json, csv,
    )  # fmt: skip
    raise SystemExit(0 if all(a.answer.fits for a in asked) else 1)


def answers(words: Sequence[str], told: Told) -> list[Asked]:
    """Every model in every setting. Raises ArchlabError."""
    names, overrides = split_words(words)
    if not names:
        raise SpecError("fit takes a model, or several")
    settings = _settings(told)
    specs = [load(name, overrides) for name in names]
    check_names((name, spec.name) for name, spec in zip(names, specs, strict=True))
    context = None if told.context is None else tokens(told.context)
    return ask(specs, settings, told.batch, context, told.images)


def _settings(told: Told) -> list[Setting]:
    """One for each device; one without a device where only a capacity is given."""
    if told.hardware is None and told.capacity is None:
        raise SpecError("fit needs --hardware (archlab hardware lists devices), or --capacity")
    if told.training_options and not told.train:
        raise SpecError("--training-option is about a training step; add --train")
    room = int(told.capacity) if told.capacity is not None and told.capacity.isdecimal() else told.capacity
    options = options_of(told.engine_options, "--engine-option")
    training = options_of(told.training_options, "--training-option") if told.train else None
    return [
        setting(device, told.precision, told.engine, told.ranks, training, told.kv, room, options)
        for device in (told.hardware.split(",") if told.hardware else [None])
    ]


def options_of(words: Sequence[str], what: str) -> dict[str, Any]:
    """key=value words as a table, values as YAML reads them. Raises SpecError."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise SpecError(f"{what} {word!r} must be key=value")
        if key in found:
            raise SpecError(f"{what} {key} is given twice")
        found[key] = yamlfile.value(text, word)
    return found
