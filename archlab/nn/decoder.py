"""The model: a decoder of tokens, with an encoder or towers where the spec has them."""

from __future__ import annotations

import torch
from torch import Tensor

from archlab import spec as archlab_spec
from archlab.errors import ArchlabError
from archlab.nn.altup import AltUpLayer
from archlab.nn.attention import Attention
from archlab.nn.cache import LAYOUTS, Cache, NoCache, Ring, Slots, Whole
from archlab.nn.declare import declared, tie
from archlab.nn.stack import Layer, Make, Stack
from archlab.nn.step import Step
from archlab.spec import ModelSpec, Workload


def layer_of(layer: archlab_spec.Layer, make: Make) -> Layer:
    """The module of a layer: around AltUp's streams, or plain."""
    return (Layer if layer.altup is None else AltUpLayer)(layer, make)


class Decoder(Stack):
    """Token ids to logits. Parameters are named as the spec names them: layers.3.attention.q, encoder.final_norm.gain.

    A tower that the spec counts by number alone is not here: give its output as `features` or `audio`.
    """

    encoder: Stack
    vision: Stack

    def __init__(self, spec: ModelSpec, make: Make) -> None:
        super().__init__(spec.decoder, make, layer_of)
        self.spec = spec
        for stack in spec.stacks:
            if stack is not spec.decoder and not stack.counted:
                self.add_module(stack.name, Stack(stack, make, layer_of))
        for path, module in declared(self).items():
            module.path = path
        self._find_owners()
        tie(self)

    def _find_owners(self) -> None:
        """A layer that shares keys and values reads those of the last layer of its kind that has its own."""
        owner: dict[str, str] = {}
        for kind, layer in zip(self.spec.kinds(), self.layers, strict=True):
            mixer = layer.attention
            if isinstance(mixer, Attention) and mixer.block.kv == "shared":
                mixer.owner = owner[kind]
            else:
                owner[kind] = mixer.path

    def forward(
        self,
        ids: Tensor | None,
        cache: Cache | None = None,
        logits: str = "all",
        *,
        decoder_ids: Tensor | None = None,
        pixels: Tensor | None = None,
        features: Tensor | None = None,
        audio: Tensor | None = None,
        prefix: int = 0,
    ) -> Tensor:
        """ids B T -> logits B T V, or B 1 V of the last token (logits="last"); hidden states B T D without a head.

        With a cache the tokens follow those that it holds, and nothing is differentiated.

        decoder_ids  B T of a model with an encoder, whose source is then `ids` B E (None once the cache keeps it)
        pixels       images I 3 H W, in the order in which their tokens stand in the sequences
        features     images as the tower and projector make them, I tokens D, instead of pixels
        audio        the same of a counted audio tower
        prefix       leading tokens that all see each other, in a model whose mask is prefix
        Raises ArchlabError for ids that are not integers of that shape, or that the cache cannot take.
        """
        memory = NoCache() if cache is None else cache
        with torch.set_grad_enabled(cache is None and torch.is_grad_enabled()):
            features = features if pixels is None else self.see(pixels)
            given = {"vision": features, "audio": audio}
            if self.spec.encoder is None:
                self._refuse(decoder_ids is not None, "decoder_ids", "an encoder")
                return self._decode(ids, memory, logits, given, prefix, None)
            source = None if ids is None else self.encode(ids, given)
            return self._decode(decoder_ids, memory, logits, {}, prefix, source)

    def see(self, pixels: Tensor) -> Tensor:
        """Images I 3 H W -> features I tokens D, by the tower and its projector."""
        tower = self.spec.vision
        self._refuse(tower is None or tower.counted, "pixels", "a vision tower that can be run")
        patches = self.vision.patches
        side = patches.block.image_size
        if pixels.dim() != 4 or tuple(pixels.shape[1:]) != (3, side, side):
            raise ArchlabError(f"pixels must be (images, 3, {side}, {side}), not {tuple(pixels.shape)}")
        step = self._step(patches.block.side**2, NoCache())
        return self.vision.run(patches(pixels.to(step.dtype)), step)

    def encode(self, ids: Tensor, given: dict[str, Tensor | None] | None = None) -> Tensor:
        """Source ids B E -> hidden states B E D of the encoder."""
        _, new = checked(ids, "all")
        step = self._step(new, NoCache(), images=self._images(ids))
        step.ids = ids
        return self.encoder.run(self._placed(self.encoder.embedding(ids), ids, given or {}), step)

    def _decode(
        self,
        ids: Tensor | None,
        memory: Cache | NoCache,
        logits: str,
        given: dict[str, Tensor | None],
        prefix: int,
        source: Tensor | None,
    ) -> Tensor:
        batch, new = checked(ids, logits)
        memory.admit(batch, new)
        self._refuse(not self.spec.decodes and memory.position > 0, "a cache", "causal layers")
        step = self._step(
            new, memory, prefix=self._prefix(prefix, memory, new), images=self._images(ids), source=source
        )
        step.ids = self._texts(ids)
        x = self.run(self._placed(self.embedding(ids), ids, given), step, last=logits == "last")
        memory.advance(new)
        return x

    def _step(self, new: int, memory: Cache | NoCache, **more: object) -> Step:
        first = next(self.parameters())
        return Step(new, memory, first.device, first.dtype, **more)  # type: ignore[arg-type]

    def _prefix(self, prefix: int, memory: Cache | NoCache, new: int) -> int:
        masks = {m.block.mask for m in declared(self).values() if isinstance(m, Attention)} if prefix else {"prefix"}
        self._refuse("prefix" not in masks, f"prefix={prefix}", "layers whose mask is prefix")
        if prefix and (memory.position or prefix > new):
            raise ArchlabError(f"prefix={prefix} must come whole, with the first tokens (here {new})")
        return prefix

    def _images(self, ids: Tensor) -> Tensor | None:
        """B T: which image a token belongs to, from 1, by runs of the image token; 0 for text."""
        token = self.spec.vision.token if self.spec.vision is not None else None
        if token is None:
            return None
        inside = ids == token
        starts = inside & ~torch.cat((torch.zeros_like(inside[:, :1]), inside[:, :-1]), 1)
        return starts.cumsum(1) * inside

    def _texts(self, ids: Tensor) -> Tensor:
        """ids with 0 where an image or a sound stands: tables of per-layer embeddings have no row for them."""
        for tower in (self.spec.vision, self.spec.audio):
            if tower is not None and tower.token is not None:
                ids = ids * (ids != tower.token)
        return ids

    def _placed(self, x: Tensor, ids: Tensor, given: dict[str, Tensor | None]) -> Tensor:
        """The embedded sequence B T D with features in the places of their tokens."""
        for name, features in given.items():
            if features is None:
                continue
            tower = getattr(self.spec, name)
            self._refuse(tower is None or tower.token is None, f"{name} features", "a token that stands for them")
            here = ids == tower.token  # B T
            if not ids.is_meta and int(here.sum()) != features.shape[:-1].numel():
                raise ArchlabError(
                    f"{int(here.sum())} tokens of {name} in the ids (each {tower.token}) do not match its "
                    f"{features.shape[:-1].numel()} features"
                )
            x = x.masked_scatter(here[..., None], features.to(x.dtype))
        return x

    def _refuse(self, wrong: bool, what: str, needed: str) -> None:
        if wrong:
            raise ArchlabError(f"{what} cannot be given: {self.spec.name} has not got {needed}")

    def init_cache(self, batch: int, context: int, dtype: torch.dtype | None = None, source: int = 0) -> Cache:
        """An empty cache for `batch` sequences of up to `context` tokens, in the weights' format unless told.

        A model with an encoder keeps keys and values of up to `source` tokens besides. A state with a format of its
        own (a recurrence's, fp32) has that one.
        """
        self.spec.admit(Workload(batch, context=context, source=source))  # refuses sizes that cannot be
        first = next(self.parameters())
        states: dict[str, Slots | Ring | Whole] = {}
        for path, module in declared(self).items():
            for state in module.block.state():
                if state.stored:
                    shape = (batch, state.slots(context, source), *module.block.shape(state.axes))
                    held = torch.float32 if state.bits == 32 else dtype or first.dtype
                    buffer = torch.zeros(shape, device=first.device, dtype=held)
                    states[f"{path}.{state.name}"] = LAYOUTS[state.capacity](state, buffer)
        return Cache(states, batch, context)


def checked(ids: Tensor | None, logits: str) -> tuple[int, int]:
    """(batch, new tokens) of ids. Raises ArchlabError."""
    if not isinstance(ids, Tensor):
        raise ArchlabError(f"ids must be a tensor of shape (batch, tokens), not {type(ids).__name__}")
    if ids.dim() != 2 or ids.dtype not in (torch.int32, torch.int64) or ids.numel() == 0:
        raise ArchlabError(f"ids must be whole numbers (batch, tokens), not {ids.dtype} of shape {tuple(ids.shape)}")
    if logits not in ("all", "last"):
        raise ArchlabError(f"logits={logits!r} must be all or last")
    return int(ids.shape[0]), int(ids.shape[1])
