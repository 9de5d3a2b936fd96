"""Pictures in a sequence: logits equal transformers', a cache changes nothing, and the rows count what its masks keep."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_images import CASES, IMAGE, ids_of, logits_of, pair, pixels_of, unified
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

import archlab
from archlab.assemble import resolve
from archlab.blocks.masks import causal_pairs, image_pairs, prefix_pairs
from archlab.errors import ArchlabError, SpecError
from archlab.ledger import ledger
from archlab.nn.audit import traced_flops, traced_macs
from archlab.nn.build import build
from archlab.nn.cache import NoCache
from archlab.nn.decoder import Decoder
from archlab.nn.step import Sight, Step
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.workload import Workload

PREFIXED = [name for name in CASES if name.startswith("pali")]
CAUSAL = [name for name in CASES if name not in PREFIXED]
LAYOUTS = {
    "one": [[4, 0, 7], [0, 11]],
    "two, text after": [[3, 0, 5, 0, 4], [1, 0, 2, 0, 9]],
    "one here, two side by side there": [[2, 0, 1, 0, 6], [5, 0, 0, 4]],
    "last": [[9, 0], [1, 0, 8]],
}
"""Texts and images (0) of each sequence of a batch; one may end with its image, or begin with it."""


def of(model: Decoder, rows: list[list[int]], seed: int) -> tuple[Tensor, Tensor]:
    """ids of a layout, and pixels of its images. A sequence's first texts give way where the layouts differ in length."""
    images = sum(row.count(0) for row in rows)
    lengths = [sum(row) + row.count(0) * model.spec.vision.tokens for row in rows]
    rows = [[max(lengths) - n + row[0], *row[1:]] if row[0] else [*row[:-1], max(lengths) - n + row[-1]]
            for row, n in zip(rows, lengths, strict=True)]  # fmt: skip
    return ids_of(model, rows, seed), pixels_of(model, images, seed)


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


# ---------------------------------------------------------------- against transformers


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CAUSAL)
@torch.no_grad()
def test_logits_of_images_in_text(name, seed):
    theirs, ours = pair(name, seed)
    for rows in LAYOUTS.values():
        ids, pixels = of(ours, rows, seed)
        expected = logits_of(theirs, ids, pixels)
        assert expected.std() > 0.3, "too small to tell anything"
        close(ours(ids, pixels=pixels), expected)
    text = torch.randint(1, IMAGE, (2, 19))
    close(ours(text), logits_of(theirs, text, None))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PREFIXED)
@torch.no_grad()
def test_logits_of_a_prefix(name, seed):
    """Image and question see all of each other, beyond the window too; what follows is causal. No image, no prefix."""
    theirs, ours = pair(name, seed)
    tokens = ours.spec.vision.tokens
    for rows in ([[0, 9], [0, 9]], [[0, 0, 7], [0, 0, 7]]):
        ids, pixels = of(ours, rows, seed)
        for prefix in (0, tokens, tokens + 5, ids.shape[1]):
            expected = logits_of(theirs, ids, pixels, prefix)
            assert expected.std() > 0.3, "too small to tell anything"
            close(ours(ids, pixels=pixels, prefix=prefix), expected)
    text = torch.randint(1, IMAGE, (2, 19))
    for prefix in (0, 1, 4, 15, 19):
        close(ours(text, prefix=prefix), logits_of(theirs, text, None, prefix))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_logits_of_many_seeds(name, seed):
    theirs, ours = pair(name, seed)
    for rows in ([[0, 9], [0, 9]], [[0, 0, 7], [0, 0, 7]]) if name in PREFIXED else LAYOUTS.values():
        ids, pixels = of(ours, rows, seed)
        prefix = ids.shape[1] - 4 if name in PREFIXED else 0
        close(ours(ids, pixels=pixels, prefix=prefix), logits_of(theirs, ids, pixels, prefix))


@torch.no_grad()
def test_shieldgemma_2_reads_two_of_the_logits():
    """Its probabilities are a softmax over Yes and No of the last row: nothing of its own."""
    theirs, ours = pair("shieldgemma2")
    ids, pixels = of(ours, LAYOUTS["one"], 0)
    verdict = ours(ids, pixels=pixels, logits="last")[:, 0, [5, 3]].softmax(-1)
    close(verdict, logits_of(theirs, ids, pixels)[:, -1, [5, 3]].softmax(-1))


@pytest.mark.parametrize("name", ["gemma3", "paligemma2", "gemma4-e2b"])
@torch.no_grad()
def test_features_stand_for_pixels(name):
    _, ours = pair(name)
    ids, pixels = of(ours, [[0, 9], [0, 9]], 0)
    assert torch.equal(ours(ids, pixels=pixels), ours(ids, features=ours.see(pixels)))
    assert (ours(ids, pixels=pixels) - ours(ids, pixels=pixels.flip(0))).abs().max() > 0.01, "the order of images tells"


@torch.no_grad()
def test_images_of_gemma_4_12b_which_has_no_tower():
    """Features given, of fewer tokens than an image may have. Masks as `generate` makes them: those of the other Gemma 4.

    A bare forward of transformers 5.23 lets the full layers see images both ways too, which its generate does not.
    """
    theirs, ours = unified()
    ids = torch.randint(1, IMAGE, (2, 16), generator=torch.Generator().manual_seed(0))
    ids[0, 3:8] = ids[1, 9:14] = IMAGE
    features, seen = torch.randn(2, 5, 30), (ids == IMAGE).long()
    masks = theirs.create_masks_for_generate(
        theirs.config, torch.zeros(2, 16, 30), None, None, None, mm_token_type_ids=seen
    )
    made = {"image": BaseModelOutputWithPooling(pooler_output=tuple(features))}
    expected = theirs(input_ids=ids, attention_mask=masks, mm_encoder_outputs=made, use_cache=False).logits
    close(ours(ids, features=features), expected)


def test_gradients_reach_the_tower():
    _, ours = pair("gemma4-31b")
    ids, pixels = of(ours, LAYOUTS["one"], 0)
    ours(ids, pixels=pixels).square().mean().backward()
    for name, parameter in ours.vision.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


# ---------------------------------------------------------------- with a cache


@pytest.mark.parametrize("chunks", [[1] * 9, [4, 5], [2, 1, 6]])
@pytest.mark.parametrize("name", [*PREFIXED, "gemma3-image-wider-than-window", "gemma4-e2b", "gemma4-31b"])
@torch.no_grad()
def test_a_cache_after_a_prompt_with_images_changes_nothing(name, chunks):
    """Across the windows' edge: the answer to a prompt, some tokens at a time, as in one pass."""
    theirs, ours = pair(name)
    ids, pixels = of(ours, [[0, 4 + 9], [0, 4 + 9]], 0)
    prompt = ids.shape[1] - 9
    prefix = prompt if name in PREFIXED else 0
    cache = ours.init_cache(*ids.shape)
    parts = [ours(ids[:, :prompt], cache, pixels=pixels, prefix=prefix)]
    parts += [ours(chunk, cache) for chunk in ids[:, prompt:].split(chunks, 1)]
    close(torch.cat(parts, 1), logits_of(theirs, ids, pixels, prefix))
    assert cache.nbytes == archlab.kv_cache(ours.spec, ids.shape[1], 2, "fp32").total


@pytest.mark.parametrize("name", ["gemma3", "gemma3-image-wider-than-window", "gemma4-31b", "gemma4-e2b"])
@torch.no_grad()
def test_images_that_come_later(name):
    """A second picture in a later chunk, further on than the window and with text before and after it."""
    theirs, ours = pair(name)
    tokens = ours.spec.vision.tokens
    ids, pixels = of(ours, [[2, 0, 11, 0, 4], [2, 0, 11, 0, 4]], 0)
    full = logits_of(theirs, ids, pixels)
    first, second = pixels[0::2], pixels[1::2]
    for cut in (2 + tokens, 2 + tokens + 6, 2 + tokens + 11):
        for end in (2 + 2 * tokens + 11, ids.shape[1]):
            cache = ours.init_cache(*ids.shape)
            parts = [ours(ids[:, :cut], cache, pixels=first), ours(ids[:, cut:end], cache, pixels=second)]
            parts += [ours(chunk, cache) for chunk in ids[:, end:].split(1, 1) if end < ids.shape[1]]
            close(torch.cat(parts, 1), full)


# ---------------------------------------------------------------- rows


def kept(theirs: nn.Module, ids: Tensor, pixels: Tensor | None, prefix: int) -> list[int]:
    """(token, key) pairs that transformers' own mask keeps, layer by layer, over the batch."""
    found = []

    def look(module: nn.Module, args: tuple, given: dict) -> None:
        mask = given["attention_mask"].expand(len(ids), -1, -1, -1)
        found.append(int((mask == 0).sum()))

    hooks = [
        layer.self_attn.register_forward_pre_hook(look, with_kwargs=True)
        for layer in theirs.model.language_model.layers
    ]
    logits_of(theirs, ids, pixels, prefix)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_pairs_are_those_of_transformers_masks(name):
    """Exact FLOPs: the dense ones less 4 N H for each pair that a mask of theirs takes away. Pictures stand apart."""
    theirs, ours = pair(name)
    spec, tokens = ours.spec, ours.spec.vision.tokens
    layouts = [[[0, 9], [0, 9]]] if name in PREFIXED else [[[3, 0, 5, 0, 4], [1, 0, 2, 0, 9]], [[9, 0], [1, 0, 8]]]
    for rows in layouts:
        ids, pixels = of(ours, rows, 0)
        for prefix in (0, tokens, tokens + 3, ids.shape[1]) if name in PREFIXED else (0,):
            work = Workload(2, new=ids.shape[1], images=rows[0].count(0), prefix=prefix)
            pairs = kept(theirs, ids, pixels, prefix)
            sizes = {e.indices: e.sizes for e in ledger(spec, work).entries if e.path == "attention"}
            assert [2 * next(s["TU"] for at, s in sizes.items() if i in at) for i in range(spec.n_layers)] == pairs
            counted = archlab.flops(spec, work)
            masked = [2 * work.new**2 - n for n in pairs]
            heads = [layer.attention.q.shape[:2].numel() for layer in ours.layers]
            assert counted.dense - counted.total == sum(4 * nh * n for nh, n in zip(heads, masked, strict=True))


@pytest.mark.parametrize("preset", ["gemma-3-4b", "gemma-4-31b", "paligemma2-3b-224"])
def test_chunks_with_their_images_cost_what_one_pass_does(preset):
    """Two images in one chunk, one in the next, and a token: exact FLOPs add up, vision included."""
    spec = archlab.load(preset)
    prefix = 3000 if "pali" in preset else 0
    whole = Workload(2, new=7001, images=3, prefix=prefix)
    parts = [
        Workload(2, new=4000, images=2, prefix=prefix),
        Workload(2, new=3000, context=7000, images=3, new_images=1, prefix=prefix),
        Workload(2, new=1, context=7001, images=3, prefix=prefix),
    ]
    assert sum(archlab.flops(spec, part).total for part in parts) == archlab.flops(spec, whole).total


@settings(deadline=None, max_examples=80)
@given(
    texts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    tokens=st.integers(1, 7),
    window=st.none() | st.integers(1, 12),
    past=st.integers(0, 9),
)
def test_images_in_a_chunk_by_brute_force(texts, tokens, window, past):
    """What the mask keeps is what the rows count: images between texts, in a chunk after a past."""
    row = [0] * texts[0]
    for image, text in enumerate(texts[1:], 1):
        row += [image] * tokens + [0] * text
    new, context, images = len(row), past + len(row), len(texts) - 1
    gone = NoCache()
    gone.position = past
    step = Step(new, gone, torch.device("cpu"), torch.float32, images=torch.tensor([row]))
    mask = step.mask(Sight(window=window, image_blocks=True))[0, 0, 0]
    of_key = [0] * past + row
    seen = [
        [
            (j <= i and (window is None or i - j < window)) or (j > i and of_key[i] == of_key[j] > 0)
            for j in range(context)
        ]
        for i in range(past, context)
    ]
    first = context - mask.shape[1]
    assert mask.tolist() == [keys[first:] for keys in seen] and not any(any(keys[:first]) for keys in seen)
    assert int(mask.sum()) == causal_pairs(new, context, window) + images * image_pairs(tokens)


@settings(deadline=None, max_examples=80)
@given(prefix=st.integers(0, 20), rest=st.integers(0, 9), window=st.none() | st.integers(1, 12))
def test_a_prefix_by_brute_force(prefix, rest, window):
    new = max(1, prefix + rest)
    step = Step(new, NoCache(), torch.device("cpu"), torch.float32, prefix=prefix)
    mask = step.mask(Sight(mask="prefix", window=window))
    wide = new if window is None else window
    seen = [[max(i, j) < prefix or 0 <= i - j < wide for j in range(new)] for i in range(new)]
    assert mask.tolist() == seen
    assert int(mask.sum()) == causal_pairs(new, new, window) + prefix_pairs(prefix, window)


SHRUNK = {
    "vision.d_model": 26, "vision.n_layers": 2, "vision.mlp.d_ff": 37, "vision.attention.n_heads": 3, "d_model": 30,
    "vision.attention.n_kv_heads": 3, "vision.attention.head_dim": 8, "vision.patches.patch_size": 7, "n_layers": 2,
    "vision.patches.image_size": 84, "mlp.d_ff": 44, "vocab_size": 97, "vision.token": IMAGE,
}  # fmt: skip


def shrunk(preset: str) -> ModelSpec:
    """A preset with its heads, windows and pooling, narrow, of two layers."""
    data = {k: v for k, v in archlab.load(preset).data.items() if k not in ("spans", "audio")}
    more = {"pattern": ["local", "global"]} if "local" in data else {}
    if "per_layer_embedding" in data:
        more |= {"per_layer_embedding.width": 5, "per_layer_embedding.table_rows": 61}
    return resolve(override(data, {**SHRUNK, **more}))


WORKS = {
    "prefill": dict(new=700, images=2),
    "one image of two in a chunk": dict(new=300, context=1900, images=2, new_images=1),
    "decode after images": dict(new=1, context=1900, images=2),
}


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("preset", ["paligemma2-3b-224", "gemma-3-4b", "gemma-4-e2b"])
def test_dense_flops_with_pixels_equal_both_counters(preset, work):
    spec, work = shrunk(preset), Workload(3, **WORKS[work], logits="last")
    model = build(spec, device="meta")
    macs, uncounted = traced_macs(model, work)
    assert 2 * macs == traced_flops(model, work) == archlab.flops(spec, work).dense
    assert not uncounted
    assert (archlab.flops(spec, work).by_part["vision"] > 0) == (work.new_images > 0)


def test_a_training_step_with_images():
    spec, work = shrunk("gemma-3-4b"), Workload(2, new=200, images=1, train=True)
    assert traced_flops(build(spec, device="meta"), work) == archlab.flops(spec, work).dense


# ---------------------------------------------------------------- bad input


def refused(sentence: str):
    return pytest.raises(ArchlabError, match=sentence)


def test_pixels_that_do_not_fit():
    _, ours = pair("gemma3")
    ids, pixels = of(ours, LAYOUTS["one"], 0)
    for wrong in (pixels[0], pixels[..., :27], pixels[:, :1], pixels[:0]):
        with refused(r"pixels must be \(images, 3, 28, 28\), not"):
            ours(ids, pixels=wrong)
    for wrong in ((pixels * 9).to(torch.uint8), pixels.tolist()):
        with refused(r"pixels must be a tensor of real numbers \(images, 3, 28, 28\), not"):
            ours(ids, pixels=wrong)
    with refused(f"8 image tokens in the ids .each {IMAGE}. do not match 1 of 4"):
        ours(ids, pixels=pixels[:1])
    with refused("0 image tokens in the ids .* do not match 2 of 4"):
        ours(ids.clamp(max=7), pixels=pixels)
    with refused("the ids hold image tokens .* and no pixels or features for them"):
        ours(ids)
    with refused("pixels and features cannot both be given"):
        ours(ids, pixels=pixels, features=pixels)
    with refused(r"features must be|features of vision must be \(images, 4 tokens, 30\), not \(2, 3, 30\)"):
        ours(ids, features=torch.zeros(2, 3, 30))


def test_pixels_for_a_model_without_a_tower():
    text, counted = archlab.load("gemma-3-1b", {"n_layers": 1, "d_model": 8, "vocab_size": 9}), shrunk_3n()
    ids = torch.ones(1, 4, dtype=torch.long)
    for spec in (text, counted):
        with refused(f"pixels cannot be given: {spec.name} has not got a vision tower that can be run"):
            build(spec)(ids, pixels=torch.zeros(1, 3, 8, 8))
    with refused("features cannot be given: gemma-3-1b has not got a section vision"):
        build(text)(ids, features=torch.zeros(1, 2, 8))


def shrunk_3n() -> ModelSpec:
    data = {k: v for k, v in archlab.load("gemma-3n-e2b").data.items() if k not in ("spans", "per_layer_embedding")}
    return resolve(
        override(
            data,
            {
                "n_layers": 1,
                "d_model": 8,
                "vocab_size": 97,
                "vision.token": 95,
                "audio.token": 96,
                "vision.counted.projector": 12,
                "audio.counted.projector": 12,
            },
        )
    )


@torch.no_grad()
def test_features_of_towers_that_are_counted():
    """As many tokens an image as there are, at most the tower's."""
    model = build(shrunk_3n())
    ids = torch.tensor([[3, 95, 95, 95, 7, 96, 96]])
    logits = model(ids, features=torch.ones(1, 3, 8), audio=torch.ones(1, 2, 8))
    assert logits.shape == (1, 7, 97) and logits.isfinite().all()
    with refused("the ids hold clip tokens .each 96., and no features for them"):
        model(ids, features=torch.ones(1, 3, 8))
    with refused(r"features of vision must be \(images, at most 256 tokens, 8\), not \(1, 300, 8\)"):
        model(ids, features=torch.ones(1, 300, 8), audio=torch.ones(1, 2, 8))


@torch.no_grad()
def test_images_that_a_chunk_cuts():
    _, ours = pair("gemma3")
    ids, pixels = of(ours, [[3, 0, 2, 0, 1]], 0)
    cache = ours.init_cache(1, 20)
    with refused("6 image tokens .* do not match 2 of 4"):
        ours(ids[:, :11], cache, pixels=pixels)
    with refused("2 image tokens in a row in the ids: each image has 4 and comes whole, in one call"):
        ours(torch.cat((ids[:, 5:9], ids[:, 4:6]), 1), cache, pixels=pixels[:1])
    assert cache.position == 0, "a refusal changes nothing"


@torch.no_grad()
def test_prefixes_that_do_not_fit():
    _, ours = pair("paligemma2")
    _, causal = pair("gemma3")
    ids = torch.ones(1, 9, dtype=torch.long)
    with refused("prefix=3 cannot be given: gemma3 has not got layers whose mask is prefix"):
        causal(ids, prefix=3)
    with refused("prefix=10 must come whole, in one call; here are 9 tokens"):
        ours(ids, prefix=10)
    for wrong in (-1, 2.5, "3", True):
        with refused("prefix=.* must be a whole number of 0 or more"):
            ours(ids, prefix=wrong)
    cache = ours.init_cache(1, 20)
    ours(ids, cache, prefix=3)
    with refused("prefix=3 must come with the first tokens, and 9 have gone by"):
        ours(ids, cache, prefix=3)


@pytest.mark.parametrize(
    ("preset", "work", "sentence"),
    [
        ("gemma-3-4b", dict(new=8192, images=40), "images=40 take 10240 tokens, more than context=8192"),
        ("gemma-3-4b", dict(new=512, context=8192, images=9, new_images=3), "new_images=3 take 768 tokens, more than new=512"),
        ("gemma-3-4b-text", dict(new=8192, images=1), "images=1 cannot be: gemma-3-4b-text has no vision tower"),
        ("gemma-3-4b", dict(new=99, prefix=9), "prefix=9 cannot be: gemma-3-4b has no layers whose mask is prefix"),
        ("paligemma-3b-224", dict(new=99, prefix=100), "prefix=100 must not exceed context=99"),
        ("paligemma-3b-224", dict(new=9, context=99, prefix=50, new_prefix=50), "new_prefix=50 needs new = context"),
        ("paligemma-3b-224", dict(new=99, prefix=50, new_prefix=20), "new_prefix=20 must be 0 or prefix=50"),
    ],
)  # fmt: skip
def test_workloads_that_cannot_be(preset, work, sentence):
    with pytest.raises(SpecError, match=sentence):
        archlab.flops(archlab.load(preset), Workload(**work))
