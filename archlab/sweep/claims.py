"""What explainers of Gemma get wrong, with the numbers that settle it: claims of conf/evidence.yaml, computed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.params import params
from archlab.errors import SpecError, nearest
from archlab.evidence import Claim, wrong_claims
from archlab.hardware import load_hardware
from archlab.presets import load
from archlab.spec import ModelSpec

PUBLISHED_ROWS = 256_128
"""Rows of Gemma 1's table in its report, padded; the released one has 256,000."""

T5_XXL = 11 * 10**9
"""Parameters of T5 XXL, half of them in each stack (conf/evidence.yaml, ainslie-t5-mha-xxl)."""


@dataclass(frozen=True)
class Calculation:
    """One number: of what, by which formula, and what it would be if the claim were right.

    kind  how the numbers read: count, bytes, tokens, ratio, or what is counted
    """

    what: str
    formula: str
    value: float
    claimed: float | None = None
    kind: str = "count"


Maker = Callable[[Sequence[ModelSpec]], Iterator[Calculation]]


def settled(models: Sequence[ModelSpec]) -> list[dict[str, Any]]:
    """Each claim with its calculations, as run.json holds it; `models` are the family. Raises SpecError."""
    claims = {claim.id: claim for claim in wrong_claims()}
    for name in _MAKERS:
        if name not in claims:
            raise SpecError(f"no claim of conf/evidence.yaml has the id {name!r}{nearest(name, claims)}")
    return [_entry(claim, [*_MAKERS[claim.id](models)] if claim.id in _MAKERS else []) for claim in claims.values()]


def _entry(claim: Claim, found: list[Calculation]) -> dict[str, Any]:
    cited = {"title": claim.cited.title, "url": claim.cited.url, "year": claim.cited.year, "where": claim.evidence}
    said = {"id": claim.id, "claim": claim.claim, "right": claim.right, "why": claim.why}
    return {**said, "calculations": [asdict(c) for c in found], "cited": cited}


def _layers(spec: ModelSpec, true_of: Callable[[Mapping[str, Any]], bool]) -> int:
    """How many layers of the decoder something is true of."""
    return sum(int(layer.count) for layer in spec.decoder.layers if true_of(layer.facts()))


def _heads(spec: ModelSpec) -> dict[str, Any]:
    """The facts of its first layer with attention."""
    return next(f for f in (layer.facts() for layer in spec.decoder.layers) if f.get("n_kv_heads"))


# ---------------------------------------------------------------- one function a claim


def _qk_norm(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    for name in ("gemma-2-9b", "gemma-3-12b"):
        spec = load(name)
        of = f"of {spec.n_layers} layers of {name}"
        yield Calculation(f"QK-norm, {of}", "layers whose queries and keys are normed", _layers(spec, _normed),
                          spec.n_layers if name == "gemma-2-9b" else None, "layers")  # fmt: skip
        yield Calculation(f"soft cap, {of}", "layers whose scores are capped", _layers(spec, _capped), kind="layers")


def _normed(facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("qk_norm"))


def _capped(facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("softcap"))


def _activation(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    used = [spec for spec in models if _layers(spec, lambda f: f["activation"] == "gelu_tanh") == spec.n_layers]
    silu = [spec for spec in models if _layers(spec, lambda f: f["activation"] == "silu")]
    yield Calculation(f"GeGLU, of {len(models)} models of the family", "models whose every MLP is gated by GELU (tanh)",
                      len(used), 0, "models")  # fmt: skip
    yield Calculation("SwiGLU, of the same", "models with an MLP that SiLU gates", len(silu), len(models), "models")


def _ffn_width(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    for name in ("gemma-2b", "gemma-7b"):
        spec = load(name)
        width = spec.data["mlp"]["d_ff"]
        wide = load(name, {"mlp.d_ff": 2 * width})
        yield Calculation(f"parameters of {name}", f"all weights, d_ff = {width:,}; claimed: d_ff = {2 * width:,}",
                          params(spec).total, params(wide).total)  # fmt: skip


def _d_model(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    for name in ("gemma-2b", "gemma-7b"):
        spec = load(name, {"vocab_size": PUBLISHED_ROWS})
        yield Calculation(
            f"embedding parameters of {name}, as the report counts",
            f"{PUBLISHED_ROWS:,} rows × d_model {spec.d_model:,}; claimed: × 4,096",
            params(spec).by_part["embedding"], PUBLISHED_ROWS * 4096,
        )  # fmt: skip


def _head_dim(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    apart = [s for s in models if _heads(s)["head_dim"] * _heads(s)["n_heads"] != s.d_model]
    what = f"set on its own, of {len(models)} models of the family"
    yield Calculation(what, "models with head_dim × heads other than d_model", len(apart), 0, "models")
    for name in ("gemma-7b", "gemma-3-27b"):
        spec, heads = load(name), _heads(load(name))
        said = spec.d_model // heads["n_heads"]
        thin = load(name, {"attention.head_dim": said})
        yield Calculation(
            f"KV cache a token, {name}",
            f"2 × {heads['n_kv_heads']} KV heads × {heads['head_dim']} × {spec.n_layers} layers × 2 bytes; "
            f"claimed: × {said}", kv_cache(spec, 1).total, kv_cache(thin, 1).total, "bytes",
        )  # fmt: skip


def _rope(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    spec = load("gemma-2b")
    roles = {role: n for (_, role), n in params(spec).by_role.items()}
    yield Calculation("weights of RoPE, gemma-2b", "sum of the weights whose role is rope", roles.get("rope", 0))
    untied = params(load("gemma-2b", {"head.tied": False})).total - params(spec).total
    yield Calculation(
        "weights that input and output share, gemma-2b", f"{spec.vocab_size:,} rows × {spec.d_model:,}", untied
    )


def _vocabulary_32k(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    spec, small = load("gemma-2b"), load("gemma-2b", {"vocab_size": 32_000})
    yield Calculation("parameters of gemma-2b", f"all weights, {spec.vocab_size:,} rows; claimed: 32,000 rows",
                      params(spec).total, params(small).total)  # fmt: skip


def _vocabulary_256k(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    old, new = load("gemma-2-2b"), load("gemma-3-1b")
    for spec, formula, said in (
        (old, f"{old.vocab_size:,} rows × {old.d_model:,}", None),
        (new, f"{new.vocab_size:,} rows × {new.d_model:,}; claimed: 256,000 rows", 256_000 * new.d_model),
    ):
        yield Calculation(f"embedding parameters of {spec.name}", formula, params(spec).by_part["embedding"], said)


def _attention_kind(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    kinds = [_kinds(spec) for spec in models]
    for name, rule in (
        ("MQA", "one KV head"),
        ("GQA", "fewer KV heads than heads"),
        ("MHA", "as many KV heads as heads"),
    ):
        count = sum(name in found for found in kinds)
        yield Calculation(
            f"{name}, of {len(models)} models of the family",
            f"models with a layer that has {rule}",
            count,
            kind="models",
        )


def _kinds(spec: ModelSpec) -> set[str]:
    facts = [layer.facts() for layer in spec.decoder.layers]
    pairs = {(f["n_heads"], f["n_kv_heads"]) for f in facts if f.get("n_kv_heads")}
    return {"MHA" if kv == heads else "MQA" if kv == 1 else "GQA" for heads, kv in pairs}


def _gemma_4_ratio(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    for spec in (s for s in models if s.family == "gemma4"):
        near, far = (sum(int(x.count) for x in spec.decoder.layers if x.reach == at) for at in ("local", "global"))
        what = f"local layers a global one, {spec.name}"
        yield Calculation(what, f"{near} local / {far} global", near / far, 4, "ratio")


def _context_128k(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    for spec in (s for s in models if s.family == "gemma3"):
        yield Calculation(
            f"trained context of {spec.name}",
            "max_position_embeddings of its config.json",
            spec.context,
            131_072,
            "tokens",
        )


def _gemma_4_27b(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    for spec in (s for s in models if s.family == "gemma4"):
        yield Calculation(f"parameters of {spec.name}", "all weights", params(spec).total, kind="count")


def _gqa_seconds(models: Sequence[ModelSpec]) -> Iterator[Calculation]:
    rate = load_hardware("tpu-v4").flops_per_s("bf16")
    least = 2 * T5_XXL / 2  # FLOPs of a token: two a parameter, of one of the stacks
    yield Calculation(
        "tokens that a TPU v4 can take through one stack of T5 XXL in that time",
        f"{rate / 1e12:g} TFLOP/s × 0.28 s / (2 FLOPs × {T5_XXL / 2e9:g} B parameters); claimed: × 0.28 ms",
        int(rate * 0.28 // least), int(rate * 0.28e-3 // least), "tokens",
    )  # fmt: skip


_MAKERS: Mapping[str, Maker] = {
    "qk-norm": _qk_norm, "activation": _activation, "ffn-width": _ffn_width, "d-model": _d_model, "head-dim": _head_dim,
    "rope": _rope, "vocabulary-32k": _vocabulary_32k, "vocabulary-256k": _vocabulary_256k,
    "attention-kind": _attention_kind, "gemma-4-ratio": _gemma_4_ratio, "context-128k": _context_128k,
    "gemma-4-27b": _gemma_4_27b, "gqa-seconds": _gqa_seconds,
}  # fmt: skip
"""Claim -> what is computed of it; the others are about training and software, which archlab does not compute."""
