"""Checkpoints into a built model, and out of it: safetensors files, shards, or a state dict, one tensor at a time."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archlab.errors import SpecError, nearest
from archlab.hf.configs import export_config, save
from archlab.hf.families import naming_of
from archlab.hf.files import drop_folders, make_folder, path_of, reason, write_whole
from archlab.hf.names import Move, Naming, canonical, moves
from archlab.spec import ModelSpec

SHARD_BYTES = 5 * 10**9
INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"


class StateDict:
    """Tensors in memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not isinstance(name, str):
                raise SpecError(f"{name!r} is a key of the state dict, and its keys must be names of tensors")
            if not isinstance(tensor, Tensor):
                raise SpecError(f"{name!r} of the state dict must be a tensor, not {type(tensor).__name__}")
            if tensor.is_meta or tensor.layout != torch.strided:
                what = "stands on meta and has no values" if tensor.is_meta else "is sparse"
                raise SpecError(f"{name} of the state dict {what}; it must be an ordinary tensor")
        self.tensors = tensors
        self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self.formats = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, as it is."""
        return self.tensors[name]


class SafeTensors:
    """Tensors in files: mapped, and read one at a time."""

    def __init__(self, files: list[Path]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.formats: dict[str, str] = {}
        self._files = [_opened(path) for path in files]
        self._home: dict[str, Any] = {}
        for file in self._files:
            for name in file.keys():  # noqa: SIM118 a handle is no mapping
                part = file.get_slice(name)
                self.shapes[name], self.formats[name] = tuple(part.get_shape()), str(part.get_dtype())
                self._home[name] = file

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU."""
        tensor: Tensor = self._home[name].get_tensor(name)
        return tensor


def _opened(path: Path) -> Any:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise SpecError(f"{path} needs the package safetensors to be read: pip install 'archlab[hf]'") from None
    try:
        return safe_open(str(path), framework="pt")
    except (OSError, SafetensorError) as problem:
        raise SpecError(f"{path} cannot be read as safetensors: {str(problem).lower()}") from None


def load_weights(model: nn.Module, source: Mapping[str, Tensor] | str | os.PathLike[str]) -> None:
    """Copies a checkpoint into a built model, in the model's own format and on its device.

    `source` is a state dict, a .safetensors file, a model.safetensors.index.json, or a folder with either. Names are
    those of transformers or of the released files. Nothing is copied unless all names and shapes fit. Raises
    ArchlabError: one sentence for tensors that are missing, unexpected, of another shape or no real numbers. Warns of
    what the model goes without.
    """
    spec = _spec_of(model)
    naming = naming_of(spec)
    tensors = _tensors_of(source)
    planned = moves(spec, naming)
    places = dict(model.state_dict(keep_vars=True))
    if any(place.is_meta for place in places.values()):
        raise SpecError(f"{spec.name} stands on meta and has no memory for weights; build it on a device")
    found = _matched(spec, naming, planned, tensors)
    with torch.no_grad():
        for theirs, group in _grouped(planned).items():
            if theirs in found:
                _take(group, tensors.read(found[theirs]), places, found[theirs])
    for pattern, sentence in naming.left_out.items():
        if any(tensors.read(name).isfinite().any() for name in tensors.shapes if re.search(pattern, name)):
            warnings.warn(sentence, stacklevel=2)


def _tensors_of(source: Any) -> StateDict | SafeTensors:
    if isinstance(source, Mapping):
        return StateDict(source)
    return SafeTensors(_files_of(path_of(source, "a checkpoint")))


def _spec_of(model: nn.Module) -> ModelSpec:
    spec = getattr(model, "spec", None)
    if not isinstance(spec, ModelSpec):
        raise SpecError(f"{type(model).__name__} is not a model that archlab.build made")
    return spec


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        inside = [path / name for name in (WHOLE, INDEX) if (path / name).is_file()]
        if not inside:
            raise SpecError(f"{path} holds neither {WHOLE} nor {INDEX}")
        path = inside[0]
    if not path.is_file():
        raise SpecError(f"{path} cannot be read: no such file")
    return _shards(path) if path.suffix == ".json" else [path]


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = [index.parent / name for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SpecError(f"{index} is not the index of a sharded checkpoint: it must map names to files") from None
    for file in files:
        if not file.is_file():
            raise SpecError(f"{index} names {file.name}, which is not beside it")
    return files


def _grouped(planned: list[Move]) -> dict[str, list[Move]]:
    """Their name -> the moves that read it."""
    groups: dict[str, list[Move]] = {}
    for move in planned:
        groups.setdefault(move.theirs, []).append(move)
    return groups


# ---------------------------------------------------------------- do they fit


def _matched(spec: ModelSpec, naming: Naming, planned: list[Move], tensors: StateDict | SafeTensors) -> dict[str, str]:
    """Their canonical name -> the source's name. Raises SpecError unless every tensor has its place."""
    wanted = {move.theirs: move for move in planned}
    found: dict[str, str] = {}
    rest = []
    for name in tensors.shapes:
        known = canonical(name, wanted, naming)
        if known is None:
            rest.append(name)
        elif known in found:
            raise SpecError(f"{found[known]} and {name} are the same tensor, {known}")
        else:
            found[known] = name
    needed = [theirs for theirs, move in wanted.items() if move.weight.tied is None and move.weight.use != "unread"]
    missing = [theirs for theirs in needed if theirs not in found]
    unexpected = [name for name in _uncounted(spec, naming, rest, tensors) if not _unused(name, naming)]
    _refuse(spec, "lacks", missing, unexpected)
    _refuse(spec, "has unexpected", unexpected, missing)
    for theirs, name in found.items():
        if tensors.shapes[name] != wanted[theirs].shape:
            shape, place = list(tensors.shapes[name]), wanted[theirs]
            raise SpecError(f"{name} has shape {shape}, but {place.ours} of {spec.name} needs {list(place.shape)}")
        if not _FLOATS.match(tensors.formats[name]):
            raise SpecError(
                f"{name} holds {tensors.formats[name].lower()}, and weights are floating-point numbers; a quantized "
                "checkpoint must be turned into one first"
            )
    return found


_FLOATS = re.compile(r"(float|bfloat|F|BF)\d")
"""Formats of real floating-point numbers, as torch and as safetensors call them."""


def _refuse(spec: ModelSpec, what: str, names: list[str], others: list[str]) -> None:
    if not names:
        return
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
    hint = nearest(names[0], others) if others else ""
    tensors = "1 tensor" if len(names) == 1 else f"{len(names):,} tensors"
    raise SpecError(f"the checkpoint {what} {tensors} of {spec.name}: {shown}{hint}")


def _unused(name: str, naming: Naming) -> bool:
    return any(re.search(pattern, name) for pattern in (*naming.unused, *naming.left_out))


def _uncounted(spec: ModelSpec, naming: Naming, names: list[str], tensors: StateDict | SafeTensors) -> list[str]:
    """Names that belong to no tower that is known by its number. Raises SpecError for a tower of another number."""
    rest = names
    for stack in spec.stacks:
        if not stack.counted:
            continue
        starts = naming.counted.get(stack.name, ())
        inside = [name for name in rest if _renamed(name, naming).startswith(starts)]
        rest = [name for name in rest if not _renamed(name, naming).startswith(starts)]
        have = sum(prod(tensors.shapes[name]) for name in inside if tensors.shapes[name])  # scalars clip, and count not
        want = sum(
            prod(block.shape(w.axes)) for _, block, _ in stack.blocks() for w in block.weights() if w.use == "counted"
        )
        if inside and have != want:
            raise SpecError(f"the {stack.name} tower of the checkpoint has {have:,} parameters, {spec.name} {want:,}")
    return rest


def _renamed(name: str, naming: Naming) -> str:
    for pattern, replacement in naming.aliases:
        name = re.sub(pattern, replacement, name)
    return name


# ---------------------------------------------------------------- in and out


def _take(group: list[Move], tensor: Tensor, places: Mapping[str, Tensor], name: str) -> None:
    for move in group:
        if move.weight.use == "unread":
            continue
        place = places[move.ours] if move.index is None else places[move.ours][move.index]
        fresh = _ours(tensor, move)
        if move.weight.tied is None:
            place.copy_(fresh)
        elif not torch.equal(fresh.to(place.device, place.dtype), place):
            raise SpecError(f"{name} differs from {move.weight.tied}, but {move.ours} is tied to it")


def _ours(tensor: Tensor, move: Move) -> Tensor:
    return _part(tensor, move).reshape(move.view).permute(move.order)


def _part(tensor: Tensor, move: Move) -> Tensor:
    return tensor if move.start is None else tensor.narrow(*move.start)


def _theirs(group: list[Move], places: Mapping[str, Tensor]) -> Tensor:
    """Their tensor, of all the moves that make it: a view of ours where there is one."""
    first = _back(group[0], places)
    if group[0].start is None:
        return first.reshape(group[0].shape)
    whole = first.new_empty(group[0].shape)
    for move in group:
        place = _part(whole, move)
        place.copy_(_back(move, places).reshape(place.shape))
    return whole


def _back(move: Move, places: Mapping[str, Tensor]) -> Tensor:
    """Our tensor (or the slice of it) with its axes in their order."""
    place = places[move.ours].detach()
    place = place if move.index is None else place[move.index]
    return place.permute(sorted(range(len(move.order)), key=move.order.__getitem__))


def export_weights(model: nn.Module, path: str | os.PathLike[str] | None = None) -> dict[str, Tensor]:
    """A built model's weights under transformers' names, as its `from_pretrained` reads them; views where they can be.

    With a path ending in .safetensors they are written to that file; with another path to a folder, in shards of at
    most 5 GB, with config.json beside them. All files are written under temporary names and then renamed. Raises
    ArchlabError for a path that cannot be written, and for a model that no class of transformers can be, or that has
    weights known only by their number.
    """
    spec = _spec_of(model)
    for stack in spec.stacks:
        if stack.counted:
            raise SpecError(
                f"{spec.name} cannot be exported: its {stack.name} tower is known by number alone; take the section "
                f"{stack.name} away for the text decoder"
            )
    config = export_config(spec)
    places = dict(model.state_dict(keep_vars=True))
    if path is not None and any(place.is_meta for place in places.values()):
        raise SpecError(f"{spec.name} stands on meta and has no weights to write; build it on a device")
    written = [
        move for move in moves(spec, naming_of(spec)) if move.weight.tied is None and move.weight.use != "unread"
    ]
    tensors = {theirs: _theirs(group, places) for theirs, group in _grouped(written).items()}
    if path is not None:
        _write(config, tensors, path_of(path, "where weights go"))
    return tensors


def _write(config: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> None:
    if path.suffix == ".safetensors":
        write_whole({path: _saver(tensors)})
        return
    fresh = make_folder(path)
    try:
        files = _folder_files(config, tensors)
        write_whole({path / name: write for name, write in files.items()})
        for name in {WHOLE, INDEX} - set(files):  # of an earlier export in other pieces
            (path / name).unlink(missing_ok=True)
    except OSError as problem:
        raise SpecError(f"{path} cannot be written: {reason(problem)}") from None
    finally:
        drop_folders(fresh)  # those that stay empty


def _folder_files(config: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Callable[[Path], Any]]:
    """Name of each file of a checkpoint's folder -> what writes it."""
    config = {**config, "dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch.")}
    files: dict[str, Callable[[Path], Any]] = {}
    shards = list(_sharded(tensors))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = WHOLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        files[file] = _saver({name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
        files[INDEX] = lambda new: new.write_text(json.dumps(index, indent=1), encoding="utf-8")
    return {**files, "config.json": lambda new: save(config, new)}


def _sharded(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if names and size + tensor.nbytes > SHARD_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.nbytes
    yield names


def _saver(tensors: Mapping[str, Tensor]) -> Callable[[Path], None]:
    """What writes tensors to a safetensors file; the full disk that the library meets is an OSError too."""

    def write(path: Path) -> None:
        try:
            from safetensors import SafetensorError
            from safetensors.torch import save_file
        except ModuleNotFoundError:
            raise SpecError("weights need the package safetensors to be written: pip install 'archlab[hf]'") from None
        try:
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(whole, str(path), metadata={"format": "pt"})
        except SafetensorError as problem:
            raise OSError(str(problem)) from None

    return write
