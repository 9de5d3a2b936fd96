"""The model: a decoder of tokens, with an encoder or towers where the spec has them."""

from __future__ import annotations

import torch
from torch import Tensor

from archlab import layers as spec_layers
from archlab.errors import ArchlabError
from archlab.nn.altup import AltUpLayer
from archlab.nn.attention import Attention
from archlab.nn.cache import LAYOUTS, Cache, NoCache, Ring, Slots, Whole
from archlab.nn.declare import declared, tie
from archlab.nn.images import check_features, check_forgotten, check_pixels, check_places, places, runs
from archlab.nn.stack import Layer, Make, Stack
from archlab.nn.step import Step
from archlab.spec import ModelSpec
from archlab.workload import Workload


class Decoder(Stack):
    """Token ids to logits. Parameters are named as the spec names them: layers.3.attention.q, encoder.final_norm.gain.

    A tower that the spec counts by number alone is not here: give its output as `features` or `audio`.
    """

    encoder: Stack
    vision: Stack

    def __init__(self, spec: ModelSpec, make: Make) -> None:
        super().__init__(spec.decoder, make, self.layer_of)
        self.spec = spec
        for stack in spec.stacks:
            if stack is not spec.decoder and not stack.counted:
                self.add_module(stack.name, Stack(stack, make, self.layer_of))
        for path, module in declared(self).items():
            module.path = path
        self._find_owners()
        tie(self)

    def layer_of(self, layer: spec_layers.Layer, make: Make) -> Layer:
        """The module of a layer: around AltUp's streams, or plain."""
        return (Layer if layer.altup is None else AltUpLayer)(layer, make)

    def _find_owners(self) -> None:
        """A layer that shares keys and values reads those of the last layer of its kind that has its own."""
        owners: dict[str, Attention] = {}
        for kind, layer in zip(self.spec.kinds(), self.layers, strict=True):
            mixer = layer.attention
            if not isinstance(mixer, Attention):
                continue
            if mixer.block.kv == "shared":
                mixer.owner = owners[kind].path
                owners[kind].lend()
            else:
                owners[kind] = mixer

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

        With a cache the tokens follow those that it holds, and nothing is differentiated. All sequences of a batch have
        one length, and all sources: there is no padding, and no mask for it.

        decoder_ids  B T of a model with an encoder, whose source is then `ids` B E: given with the first tokens, and
                     None once a cache keeps the keys and values that were made of it
        pixels       images I 3 H W, in the order in which their tokens stand in the sequences, of -1 to 1 (0 to 1 for
                     a tower that stretches them); each image comes whole, in the call that has its tokens
        features     images as the tower and projector make them, I tokens D, instead of pixels
        audio        the same of a counted audio tower
        prefix       leading tokens that all see each other, in a model whose mask is prefix
        Raises ArchlabError for ids that are not integers of that shape, or that the cache cannot take, and for images
        and ids that do not fit together.
        """
        memory = NoCache() if cache is None else cache
        self._refuse(cache is not None and not self.spec.decodes, "a cache", "causal layers")
        if self.spec.encoder is None:
            self._refuse(decoder_ids is not None, "decoder_ids", "an encoder")
        else:
            self._admit(ids, decoder_ids, memory, pixels, features, audio)
        with torch.set_grad_enabled(cache is None and torch.is_grad_enabled()):
            given = {"vision": self._seen(ids, pixels, features), "audio": audio}  # type: ignore[arg-type]
            if self.spec.encoder is None:
                return self._decode(ids, memory, logits, given, prefix, None)  # type: ignore[arg-type]
            source = None if ids is None else self.encode(ids, given)
            return self._decode(decoder_ids, memory, logits, {}, prefix, source)  # type: ignore[arg-type]

    def _admit(
        self, ids: Tensor | None, decoder_ids: Tensor | None, memory: Cache | NoCache, *seen: Tensor | None
    ) -> None:
        """Raises ArchlabError unless there are tokens to decode, and a source with the first of them and none later."""
        if decoder_ids is None:
            raise ArchlabError(
                f"decoder_ids are missing: ids are the source, which the encoder of {self.spec.name} reads"
            )
        batch, new = checked(decoder_ids, name="decoder_ids")
        if memory.position:
            if any(given is not None for given in (ids, *seen)):
                raise ArchlabError(
                    "ids must be None, without images: the source came with the first tokens and is kept"
                )
            return
        if ids is None:
            raise ArchlabError("ids, the source, are missing: only a cache keeps them, from the first tokens on")
        sources, length = checked(ids)
        if sources != batch:
            raise ArchlabError(f"ids of {sources} sequences do not match decoder_ids of {batch}")
        memory.admit(batch, new, length)

    def _seen(self, ids: Tensor, pixels: Tensor | None, features: Tensor | None) -> Tensor | None:
        """Features of the images in `ids`, given or made of pixels."""
        if pixels is None:
            return features
        if features is not None:
            raise ArchlabError("pixels and features cannot both be given: features are what the tower makes of pixels")
        check_pixels(pixels, self._side())
        tower = self._tower("vision", "pixels")
        checked(ids)
        check_places(ids, tower, len(pixels), tower.tokens)
        return self.see(pixels)

    def see(self, pixels: Tensor) -> Tensor:
        """Images I 3 H W -> features I tokens D, by the tower and its projector."""
        check_pixels(pixels, self._side())
        patches: Tensor = self.vision.patches(pixels)
        return self.vision.run(patches, self._step(patches.shape[1], NoCache()))

    def _side(self) -> int:
        """Pixels of an image's side."""
        tower = self.spec.vision
        self._refuse(tower is None or tower.counted, "pixels", "a vision tower that can be run")
        side: int = self.vision.patches.block.facts()["image_size"]
        return side

    def _tower(self, name: str, what: str) -> spec_layers.Stack:
        """The tower of that name, whose tokens the sequence has places for."""
        tower: spec_layers.Stack = getattr(self.spec, name)
        self._refuse(tower is None, what, f"a section {name}")
        self._refuse(tower.token is None, what, f"a token that stands for them ({name}.token)")
        return tower

    def encode(self, ids: Tensor, given: dict[str, Tensor | None] | None = None) -> Tensor:
        """Source ids B E -> hidden states B E D of the encoder. `given`: the features of images and sounds in it."""
        self._refuse(self.spec.encoder is None, "a source to encode", "an encoder")
        _, new = checked(ids)
        given = given or {}
        step = self._step(new, NoCache(), images=self._images(ids, given))
        step.ids = self._texts(ids)
        return self.encoder.run(self._placed(self.encoder.embedding(ids), ids, given), step)

    def _decode(
        self,
        ids: Tensor,
        memory: Cache | NoCache,
        logits: str,
        given: dict[str, Tensor | None],
        prefix: int,
        source: Tensor | None,
    ) -> Tensor:
        batch, new = checked(ids, logits)
        memory.admit(batch, new)
        step = self._step(
            new, memory, prefix=self._prefix(prefix, memory, new), images=self._images(ids, given), source=source
        )
        step.ids = self._texts(ids)
        x = self.run(self._placed(self.embedding(ids), ids, given), step, last=logits == "last")
        memory.advance(new)
        return x

    def _step(self, new: int, memory: Cache | NoCache, **more: object) -> Step:
        first = next(self.parameters())
        return Step(new, memory, first.device, first.dtype, **more)  # type: ignore[arg-type]

    def _prefix(self, prefix: int, memory: Cache | NoCache, new: int) -> int:
        if not isinstance(prefix, int) or isinstance(prefix, bool) or prefix < 0:
            raise ArchlabError(f"prefix={prefix!r} must be a whole number of 0 or more")
        if not prefix:
            return 0
        self._refuse(not self.spec.has_prefix, f"prefix={prefix}", "layers whose mask is prefix")
        if memory.position:
            raise ArchlabError(f"prefix={prefix} must come with the first tokens, and {memory.position} have gone by")
        if prefix > new:
            raise ArchlabError(f"prefix={prefix} must come whole, in one call; here are {new} tokens")
        return prefix

    def _images(self, ids: Tensor, given: dict[str, Tensor | None]) -> Tensor | None:
        """B T: which image a token belongs to, where there are any."""
        return None if given.get("vision") is None else runs(ids, self._tower("vision", "features"))

    def _texts(self, ids: Tensor) -> Tensor:
        """ids with 0 where an image or a sound stands: tables of per-layer embeddings have no row for them."""
        for tower in (self.spec.vision, self.spec.audio):
            if tower is not None and tower.token is not None:
                ids = ids * (ids != tower.token)
        return ids

    def _placed(self, x: Tensor, ids: Tensor, given: dict[str, Tensor | None]) -> Tensor:
        """The embedded sequence B T D with features in the places of their tokens."""
        for name, features in given.items():
            if features is not None:
                tower = self._tower(name, "features" if name == "vision" else name)
                check_features(features, tower, x.shape[-1])
                check_places(ids, tower, *features.shape[:2])
                x = x.masked_scatter(places(ids, tower)[..., None], features.to(x.dtype))
            elif getattr(self.spec, name) is not None and getattr(self.spec, name).token is not None:
                check_forgotten(ids, getattr(self.spec, name))
        return x

    def _refuse(self, wrong: bool, what: str, needed: str) -> None:
        if wrong:
            raise ArchlabError(f"{what} cannot be given: {self.spec.name} has not got {needed}")

    def init_cache(self, batch: int, context: int, dtype: torch.dtype | None = None, source: int = 0) -> Cache:
        """An empty cache for `batch` sequences of up to `context` tokens, in the weights' format unless told.

        A model with an encoder keeps keys and values of up to `source` tokens besides. A state with a format of its
        own (a recurrence's, fp32) has that one. Raises ArchlabError for a model that reads whole sequences.
        """
        self._refuse(not self.spec.decodes, "a cache", "causal layers")
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
        return Cache(states, batch, context, source)


def checked(ids: Tensor | None, logits: str = "all", name: str = "ids") -> tuple[int, int]:
    """(batch, new tokens) of ids. Raises ArchlabError."""
    if not isinstance(ids, Tensor):
        raise ArchlabError(f"{name} must be a tensor of shape (batch, tokens), not {type(ids).__name__}")
    if ids.dim() != 2 or ids.dtype not in (torch.int32, torch.int64) or ids.numel() == 0:
        raise ArchlabError(f"{name} must be whole numbers (batch, tokens), not {ids.dtype} of shape {tuple(ids.shape)}")
    if logits not in ("all", "last"):
        raise ArchlabError(f"logits={logits!r} must be all or last")
    return int(ids.shape[0]), int(ids.shape[1])
