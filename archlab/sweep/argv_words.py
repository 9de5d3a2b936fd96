"""The words of a sweep's command line as flags and settings, in Hydra's grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from archlab import yamlfile
from archlab.errors import SpecError, nearest
from archlab.paths import data_dir
from archlab.sweep.study import hydra_text

GROUPS = {
    "model": "model", "workload": "workload", "hardware": "device", "precision": "precision", "engine": "engine",
}  # fmt: skip
PLAIN = (
    "study", "grid", "hold", "hold_by", "hold_workload", "hold_multiple", "limits", "per_character", "where",
    "objectives", "epsilon", "axis", "quality", "rows", "sample", "parts", "part", "measure", "out", "run_id",
)  # fmt: skip
OWN = ("devices", "sample", "part", "run_id", "log")
"""Settings that archlab makes itself."""

LAUNCHER = "hydra/launcher"

SHOWING = ("--cfg", "-c", "--info", "-i", "--help", "-h", "--hydra-help", "--version", "--shell-completion", "-sc")
OVERRIDE = re.compile(r"^(?:~[\w./@]+(?:=.*)?|\+{0,2}[A-Za-z_][\w./@]*=.*)$", re.DOTALL)

WHOLLY_QUOTED = re.compile(r"""(['"])(?:\\.|(?!\1).)*\1""", re.DOTALL)


def split_flags(words: list[str]) -> tuple[list[str], list[str]]:
    """(Hydra's flags with their values, key=value words). Raises SpecError for a flag or a word that is neither."""
    from hydra._internal.utils import get_args_parser

    known = {option: action for action in get_args_parser()._actions for option in action.option_strings}
    flags: list[str] = []
    settings: list[str] = []
    waiting = ""  # how many values the last flag takes: "" none, "?" perhaps one, "1" one
    for word in words:
        if word.startswith("-"):
            flag, given, _ = word.partition("=")
            if flag not in known:
                raise SpecError(f"unknown option {flag}{nearest(flag, known)}")
            flags.append(word)
            waiting = "" if given or known[flag].nargs == 0 else str(known[flag].nargs or "1")
        elif waiting == "1" or (waiting and not OVERRIDE.match(word)):
            flags.append(word)
            waiting = ""
        elif OVERRIDE.match(word):
            settings.append(word)
        else:
            raise SpecError(f"unexpected word {word!r}; a sweep takes one study, key=value words and Hydra's flags")
    return flags, settings


def only_shows(flags: list[str]) -> bool:
    """Whether a flag asks Hydra to show something instead of running."""
    return any(f.split("=")[0] in SHOWING for f in flags)


def settings_of(words: list[str]) -> dict[str, str]:
    """key -> word. Raises SpecError for a key of no group, one given twice, and Hydra's ~ (a model's keys stay)."""
    settings: dict[str, str] = {}
    for word in words:
        if word.startswith("~"):
            raise SpecError(f"{word} would delete a key; set it to null instead, or leave it as it is")
        key = word.partition("=")[0].lstrip("+~")
        group = key.split(".")[0].split("@")[0]
        if group not in (*GROUPS, *PLAIN) and not key.startswith("hydra"):
            known = (*GROUPS, *PLAIN, "hydra")
            raise SpecError(
                f"unknown key {key}{nearest(key, known)} (a key starts with its group: {', '.join(GROUPS)})"
            )
        if key in settings:
            raise SpecError(f"{key} is given twice")
        settings[key] = word
    return settings


def text_of(word: str) -> str:
    """What stands after a word's =, without quotes around it; a quote that is of a text within stays."""
    text = word.partition("=")[2]
    return text[1:-1] if WHOLLY_QUOTED.fullmatch(text) else text


def quoted(given: Mapping[str, str]) -> dict[str, str]:
    """Conditions and objectives as lists in Hydra's grammar, in which < and spaces need quotes."""
    found = dict(given)
    for key in ("where", "objectives"):
        text = text_of(given.get(key, ""))
        if key in given and not text.startswith("["):
            parts = [text] if key == "where" else [part.strip() for part in text.split(",")]
            found[key] = f"{key}={hydra_text([p for p in parts if p])}"
    return found


def texts_of(word: str) -> list[str]:
    """The entries of a list, as text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return [str(v) for v in plain(OverridesParser.create().parse_override(word).value())]


def value_of(word: str) -> Any:
    """The single value of a word, as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return plain(OverridesParser.create().parse_override(word).value())


def plain(value: Any) -> Any:
    """Hydra's parsed values as Python's: quoted strings lose their quotes."""
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return getattr(value, "text", value)


def default_names() -> dict[str, str]:
    """Group -> the file of it that Hydra takes where nothing is said."""
    entries = yamlfile.read(data_dir("conf") / "config.yaml")["defaults"]
    return {
        group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items() if group in GROUPS
    }
