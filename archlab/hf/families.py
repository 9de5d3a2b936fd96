"""The families: which model_type is read by whom, which family is written by whom, and how its tensors are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archlab.errors import SpecError, nearest
from archlab.hf import gemma, gemma3n, gemma4, multimodal, recurrentgemma, t5gemma
from archlab.hf.names import Naming
from archlab.spec import ModelSpec

Tree = dict[str, Any]

READERS: Mapping[str, Callable[[Tree], Tree]] = {
    **dict.fromkeys(gemma.TRAITS, gemma.read),
    "gemma3": multimodal.read_gemma3,
    "shieldgemma2": multimodal.read_gemma3,
    "paligemma": multimodal.read_paligemma,
    **dict.fromkeys(("gemma3n", "gemma3n_text"), gemma3n.read),
    **dict.fromkeys(("gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"), gemma4.read),
    "recurrent_gemma": recurrentgemma.read,
    "t5gemma": t5gemma.read_t5gemma,
    "t5gemma2": t5gemma.read_t5gemma2,
}
"""model_type -> what reads its config.json to the keys of a model file."""


def _gemma3_config(spec: ModelSpec) -> Tree:
    return gemma.write(spec) if spec.vision is None else multimodal.write_gemma3(spec)


def _gemma3_naming(spec: ModelSpec) -> Naming:
    return gemma.naming(spec) if spec.vision is None else multimodal.naming_gemma3(spec)


WRITERS: Mapping[str, Callable[[ModelSpec], Tree]] = {
    **dict.fromkeys(("gemma", "gemma2", "embeddinggemma", "vaultgemma"), gemma.write),
    "gemma3": _gemma3_config,
    "paligemma": multimodal.write_paligemma,
    "gemma3n": gemma3n.write,
    "gemma4": gemma4.write,
    "recurrentgemma": recurrentgemma.write,
    "t5gemma": t5gemma.write_t5gemma,
    "t5gemma2": t5gemma.write_t5gemma2,
}
"""family -> what writes its config.json."""

NAMINGS: Mapping[str, Callable[[ModelSpec], Naming]] = {
    **dict.fromkeys(("gemma", "gemma2", "embeddinggemma", "vaultgemma"), gemma.naming),
    "gemma3": _gemma3_naming,
    "paligemma": multimodal.naming_paligemma,
    "gemma3n": gemma3n.naming,
    "gemma4": gemma4.naming,
    "recurrentgemma": recurrentgemma.naming,
    "t5gemma": t5gemma.naming_t5gemma,
    "t5gemma2": t5gemma.naming_t5gemma2,
}
"""family -> how its tensors are called."""


def naming_of(spec: ModelSpec) -> Naming:
    """Names of a model's tensors in checkpoints. Raises SpecError for a family without a checkpoint format."""
    if spec.family not in NAMINGS:
        known = ", ".join(NAMINGS)
        raise SpecError(
            f"family={spec.family!r} has no checkpoint format{nearest(spec.family, NAMINGS)} (known: {known})"
        )
    return NAMINGS[spec.family](spec)
