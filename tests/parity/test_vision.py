"""Vision towers alone: features equal transformers', FLOPs the rows', and a deep one of random weights stays finite."""

import pytest
import torch
from tiny_images import CASES, pair, patches_of, pixels_of
from torch.utils.flop_counter import FlopCounterMode

import archlab
from archlab.assemble import resolve
from archlab.errors import SpecError
from archlab.ledger import ledger
from archlab.nn.build import build
from archlab.nn.declare import declared
from archlab.nn.decoder import Decoder
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.workload import Workload

TOWERS = [name for name in CASES if name != "shieldgemma2"]  # which is Gemma 3's


def features(theirs: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """What transformers puts in the places of the images."""
    if theirs.config.model_type != "gemma4":
        return theirs.get_image_features(pixels).pooler_output
    given = patches_of(theirs, pixels)
    return torch.stack(theirs.get_image_features(given["pixel_values"], given["image_position_ids"]).pooler_output)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_features_equal_transformers(name, seed):
    theirs, ours = pair(name, seed)
    for images in (1, 3):
        pixels = pixels_of(ours, images, seed)
        expected = features(theirs, pixels)
        assert expected.std() > 0.3, "too small to tell anything"
        torch.testing.assert_close(ours.see(pixels), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["paligemma", "gemma3", "gemma4-31b"])
@torch.no_grad()
def test_columns_are_not_rows(name):
    """A picture turned on its diagonal is another picture."""
    _, ours = pair(name)
    pixels = pixels_of(ours, 1)
    turned = ours.see(pixels.transpose(2, 3))
    side = int(turned.shape[1] ** 0.5)
    back = turned.unflatten(1, (side, side)).transpose(1, 2).flatten(1, 2)
    assert (back - ours.see(pixels)).abs().max() > 0.1


@torch.no_grad()
def test_images_do_not_see_each_other():
    _, ours = pair("gemma3")
    pixels = pixels_of(ours, 3)
    torch.testing.assert_close(ours.see(pixels)[1:2], ours.see(pixels[1:2]), rtol=0, atol=1e-5)


class Seen(torch.nn.Module):
    """A pass through the tower alone, as counters of modules want it."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.see(pixels)


@pytest.mark.parametrize(
    ("preset", "parameters", "tokens"),
    [("gemma-3-4b", 416_866_032, 256), ("paligemma-3b-448", 413_327_088, 1024), ("gemma-4-31b", 569_548_080, 256)],
)
def test_towers_at_full_size(preset, parameters, tokens):
    """Parameters as transformers builds them; a forward pass on meta does the FLOPs of the rows, part by part."""
    spec = archlab.load(preset)
    model = build(spec, device="meta", dtype=torch.bfloat16)
    patches = spec.vision.length
    built = {path: sum(p.numel() for p in m.parameters(recurse=False)) for path, m in declared(model).items()}
    tower = {path: n for path, n in built.items() if path.startswith("vision.")}
    assert sum(tower.values()) - tower["vision.projector"] == parameters == archlab.params(spec).by_part["vision"]
    pixels = torch.empty(2, 3, *[model.vision.patches.block.image_size] * 2, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert Seen(model)(pixels).shape == (2, tokens, spec.d_model)
    work = Workload(new=tokens * 2, images=2)
    by_part = archlab.flops(spec, work).by_part
    assert counter.get_total_flops() == by_part["vision"] + by_part["projector"]
    found = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    for entry in ledger(spec, work).entries:
        if entry.stack == "vision":
            path = entry.path.replace("vision.", "vision.layers.7." if entry.indices else "vision.", 1)
            assert found.get(f"Seen.model.{path}", 0) == sum(op.flops(entry.sizes, dense=True) for op in entry.rows.ops)
    assert found["Seen.model.vision.patches"] == 2 * 2 * patches * model.vision.patches.patch.numel()


@pytest.mark.parametrize("preset", ["gemma-3-4b", "gemma-4-31b", "gemma-4-e2b"])
@torch.no_grad()
def test_a_deep_tower_of_random_weights_stays_finite(preset):
    """All layers of the released one, narrow, in bf16."""
    small = {"vision.d_model": 64, "vision.mlp.d_ff": 90, "d_model": 48, "n_layers": 1, "vision.patches.image_size": 96}
    patch = {"vision.patches.patch_size": 8, "vision.patches.positions": 20} if "gemma-4" in preset else {}
    patch = patch or {"vision.patches.patch_size": 8}
    data = dict(archlab.load(preset).data)
    for key in ("spans", "per_layer_embedding", "audio"):
        data.pop(key, None)
    model = build(resolve(override(data, {**small, **patch})), dtype=torch.bfloat16)
    made = model.see(pixels_of(model, 1))
    assert made.dtype == torch.bfloat16 and made.isfinite().all()
    assert 0.2 < made.float().std() < 5


def changed(preset: str, changes: dict) -> ModelSpec:
    return archlab.load(preset, changes)


@pytest.mark.parametrize(
    ("preset", "changes", "sentence"),
    [
        ("gemma-3-4b", {"vision.patches.image_size": 900}, r"image_size \(900\) must be a multiple of patch_size"),
        ("gemma-3-4b", {"vision.projector.pool": 5}, r"patches along a side \(64\) must be a multiple of pool \(5\)"),
        ("gemma-4-31b", {"vision.patches.positions": 47}, "at least the 48 patches along a side"),
        ("gemma-4-31b", {"vision.attention.head_dim": 70}, r"head_dim \(70\) must be a multiple of 4"),
        ("gemma-4-31b", {"vision.attention.rope_axes": 3}, "from 1 to 2"),
        ("gemma-4-31b", {"vision.attention.rope_fraction": 0.5}, "rope_axes: 2 turns the whole head"),
        ("gemma-3-1b", {"attention.rope_axes": 2}, "rope_axes: 2 is for patches, in a vision tower"),
        ("gemma-3-1b", {"attention.image_blocks": True}, "image_blocks: true needs a vision section"),
        ("gemma-3-4b", {"attention.mask": "prefix"}, "image_blocks: true goes with mask: causal"),
        ("gemma-3-4b", {"vision.projector.standardise": True}, "did you mean .*standardize"),
    ],
)
def test_towers_that_cannot_be(preset, changes, sentence):
    with pytest.raises(SpecError, match=sentence):
        changed(preset, changes)
