"""A Hugging Face config.json to a spec, and a spec to a config.json that transformers loads.

Neither torch nor transformers is needed.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from archlab.algebra import Number, is_scalar
from archlab.assemble import resolve
from archlab.errors import SpecError, nearest
from archlab.hf.families import READERS, WRITERS
from archlab.hf.files import path_of, write_whole
from archlab.hf.reader import short, shown
from archlab.hf.text import top_block
from archlab.layers import Block, Layer, Stack
from archlab.ledger import ledger
from archlab.spec import ModelSpec
from archlab.yamlfile import naming

# ---------------------------------------------------------------- in


def import_config(config: Mapping[str, Any] | str | os.PathLike[str]) -> ModelSpec:
    """The spec of a config.json: its path, its folder, or its keys.

    Raises ArchlabError with one sentence for a file that is none, a key that is not known, or a value that no spec can
    say.
    """
    if isinstance(config, Mapping):
        return resolve(model_data(config))
    data = read_config(path_of(config, "a config.json"))
    with naming(config if isinstance(config, str) else Path(config)):
        return resolve(data)


def read_config(path: Path) -> dict[str, Any]:
    """The keys of a model file that say what the config.json at a path does. Raises ArchlabError."""
    path = path / "config.json" if path.is_dir() else path
    document = _json(path)
    with naming(path):
        name = path.parent.resolve().name if path.name == "config.json" else path.stem
        return model_data(document, name or None, f"config.json at {path}")


def read_hub(model: str) -> dict[str, Any]:
    """The same of hf:ORG/NAME, fetched from the Hub. Raises ArchlabError."""
    from archlab.hf.hub import fetched

    document = _json(fetched(model))
    with naming(model):
        return model_data(document, model.rpartition("/")[2], f"config.json of {model.removeprefix('hf:')}")


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_distinct)
    except OSError as problem:
        raise SpecError(f"{path} cannot be read: {(problem.strerror or 'unknown error').lower()}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not a text file in UTF-8") from None
    except json.JSONDecodeError as problem:
        where = f"line {problem.lineno}, column {problem.colno}"
        raise SpecError(f"{path} is not valid JSON at {where}: {problem.msg.lower()}") from None
    except RecursionError:
        raise SpecError(f"{path} is not valid JSON: it is nested too deep") from None
    except ValueError:  # Python's own limit
        raise SpecError(f"{path} is not a config.json: it has a number of thousands of digits") from None
    except SpecError as problem:
        raise SpecError(f"{path}: {problem}") from None
    if not isinstance(document, dict):
        raise SpecError(f"{path} is not a config.json: it must hold keys and values, not {type(document).__name__}")
    return document


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise SpecError(f"key {key!r} is given twice")
        found[key] = value
    return found


def model_data(config: Mapping[str, Any], name: str | None = None, source: str = "config.json") -> dict[str, Any]:
    """The keys of a model file that say what a config.json says. Raises SpecError."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise SpecError("it has no model_type, so it is not the config.json of a Hugging Face model")
    if model_type not in READERS:
        known = ", ".join(READERS)
        raise SpecError(f"model_type={short(model_type)} is not read{nearest(model_type, READERS)} (known: {known})")
    given = config.get("_name_or_path")
    named = Path(given).name if isinstance(given, str) and given else ""
    tree = READERS[model_type](dict(config))
    return {"name": name or named or model_type, "source": source, **tree}


# ---------------------------------------------------------------- out


def export_config(spec: ModelSpec, path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The config.json of a spec, written to `path` where one is given (a temporary name first, then renamed).

    What is written reads back as the same model. Raises SpecError with the reason where no class of transformers can
    say it.
    """
    config = _written(spec)
    if path is not None:
        write_whole({path_of(path, "where a config.json goes"): lambda new: save(config, new)})
    return config


def save(config: Mapping[str, Any], path: Path) -> None:
    """Writes a config.json."""
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _written(spec: ModelSpec) -> dict[str, Any]:
    for entry in ledger(spec).entries:
        for letter, size in {"count": entry.count, **entry.sizes}.items():
            if not is_scalar(size) and size is not None:
                raise SpecError(f"{entry.path} has {letter} = {size}; only a model of plain numbers has a config.json")
    try:
        return _checked(spec)
    except SpecError as problem:
        raise SpecError(
            f"{spec.name} has no config.json of family {spec.family}: {problem}{_elsewhere(spec)}"
        ) from None


def _checked(spec: ModelSpec) -> dict[str, Any]:
    """A config.json that reads back as the spec. Raises SpecError with what it cannot say."""
    if spec.family not in WRITERS:
        raise SpecError(f"only {', '.join(WRITERS)} have one{nearest(spec.family, WRITERS)}")
    config = WRITERS[spec.family](spec)
    lost = difference(spec, resolve(model_data(config)))
    if lost:
        raise SpecError(lost)
    return config


def _elsewhere(spec: ModelSpec) -> str:
    """The other family whose config.json could say the model, in words; nothing where there is none."""
    for family in WRITERS:
        with suppress(SpecError):
            _checked(dataclasses.replace(spec, family=family))
            return f"; family: {family} would do"
    return ""


# ---------------------------------------------------------------- what a family cannot say


def difference(ours: ModelSpec, theirs: ModelSpec) -> str | None:
    """What `theirs` says otherwise than `ours`, in words; None where they are the same model.

    Names of kinds and spans are nobody's, and a default that is said is one that is not.
    """
    for key in ("family", "d_model", "n_layers", "vocab_size", "context"):
        if getattr(ours, key) != getattr(theirs, key):
            return _other(key, getattr(ours, key), getattr(theirs, key))
    for name in ("vision", "audio", "encoder", "decoder"):
        mine, read = getattr(ours, name), getattr(theirs, name)
        if (mine is None) != (read is None):
            return f"there it has {'' if mine is None else 'no '}{name}"
        lost = None
        if mine is not None:
            lost = _projector_difference(mine, read, ours.d_model) or _stack_difference(mine, read)
        if lost:
            return lost
    return None


def _stack_difference(mine: Stack, read: Stack) -> str | None:
    for key in ("reads", "length", "tokens", "token", "part", "counted"):
        if getattr(mine, key) != getattr(read, key):
            return _other(f"{mine.prefix}{key}", getattr(mine, key), getattr(read, key))
    lost = _blocks_difference([*mine.before, *mine.after], [*read.before, *read.after], mine.prefix)
    if lost:
        return lost
    ours, theirs = mine.in_order(), read.in_order()
    if len(ours) != len(theirs):
        return _other(f"{mine.prefix}n_layers", len(ours), len(theirs))
    for index, (left, right) in enumerate(zip(ours, theirs, strict=True)):
        lost = _layer_difference(left, right, mine.prefix)
        if lost:
            return f"{lost} (layer {index})"
    return None


def _projector_difference(mine: Stack, read: Stack, d_model: Number) -> str | None:
    if not (mine.counted and read.counted):
        return None
    ours, theirs = (top_block(stack, "projector").projector for stack in (mine, read))
    if ours == theirs:
        return None
    return (
        f"a counted projector does not follow d_model: {mine.prefix}counted.projector is {ours:,}, and at "
        f"d_model={d_model} transformers' has {theirs:,} parameters"
    )


def _layer_difference(mine: Layer, read: Layer, prefix: str) -> str | None:
    lost = _blocks_difference([*mine.blocks()], [*read.blocks()], prefix)
    if lost:
        return lost
    for left, right in zip(mine.residuals, read.residuals, strict=True):
        if left.scale != right.scale:
            return _other(f"{prefix}{left.name}.scale", left.scale, right.scale)
    return None


def _blocks_difference(mine: list[tuple[str, Block]], read: list[tuple[str, Block]], prefix: str) -> str | None:
    left, right = dict(mine), dict(read)
    for path in (*left, *right):
        if (path in left) != (path in right):
            return f"there it has {'no ' if path in left else ''}{prefix}{path}"
    for path, block in left.items():
        if type(block) is not type(right[path]):
            return _other(prefix + path, type(block).__name__, type(right[path]).__name__)
        ours, theirs = dict(_facts(block)), dict(_facts(right[path]))
        for key, value in ours.items():
            if value != theirs[key]:
                return _other(f"{prefix}{path}.{key}", value, theirs[key])
    return None


def _facts(block: Block) -> Iterator[tuple[str, Any]]:
    """Fields of a block, each default that follows from another field said."""
    told = {f.name: getattr(block, f.name) for f in dataclasses.fields(block)}
    if "query_scale" in told and told["query_scale"] is None:
        told["query_scale"] = told["head_dim"]
    if told.get("mask") == "bidirectional" and told.get("window") is not None and told["ahead"] is None:
        told["ahead"] = told["window"] - 1
    for neutral in ("unread_kv", "on_host", "what"):  # what a file holds beside the model, where a table lies, a name
        told.pop(neutral, None)
    if "d_ff_factor" in told:
        told["d_ff"], told["d_ff_factor"] = told["d_ff"] * told["d_ff_factor"], 1
    yield from told.items()


def _other(key: str, ours: Any, theirs: Any) -> str:
    return f"there {key} is {shown(theirs)}, not {shown(ours)}"
