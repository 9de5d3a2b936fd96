"""What a model is asked to do: a prefill, a decode step or a training step, and what each stack sees of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from archlab.algebra import Number, is_column, is_scalar, is_symbol, plain
from archlab.errors import SpecError
from archlab.fields import Rule, at_most, is_whole, same
from archlab.layers import Stack

MOST_TOKENS = 10**15


@dataclass(frozen=True)
class Frame:
    """What the rows of one stack see of a workload: T = `new` tokens of `batch` sequences that end at `context`.

    For a tower the sequences are the new images, their tokens the patches; for an encoder the new source tokens. Sizes
    may be 0: nothing is read after the first step.
    """

    batch: Number
    new: Number
    context: Number
    logit_rows: Number
    source: Number = 0
    new_source: Number = 0
    new_images: Number = 0
    new_prefix: Number = 0


@dataclass(frozen=True)
class Workload:
    """T = `new` tokens for each of `batch` sequences, ending at `context` tokens.

    Prefill has new = context, a decode step new = 1. `train` adds the backward pass and has new = context.
    `logits` is 'all' or 'last'. A sequence may have an encoder's `source` tokens, `images` in its context, and a
    `prefix` whose tokens all see each other (an image and its question). They are read with the first tokens:
    `new_source`, `new_images` and `new_prefix` say how much of each is among the new, by default all of it where
    new = context and none otherwise.
    Raises SpecError for sizes that cannot be.
    """

    batch: Number = 1
    new: Number = None
    context: Number = None
    train: bool = False
    logits: str = "all"
    source: Number = 0
    images: Number = 0
    prefix: Number = 0
    new_source: Number = None
    new_images: Number = None
    new_prefix: Number = None

    def __post_init__(self) -> None:
        new, context = plain(self.new), plain(self.context)
        object.__setattr__(self, "batch", plain(self.batch))
        if new is None and context is None:
            raise SpecError("a workload needs new (tokens to process) or context (tokens in all)")
        object.__setattr__(self, "new", context if new is None else new)
        object.__setattr__(self, "context", new if context is None else context)
        for name in ("batch", "context", "new"):
            _check_count(name, getattr(self, name), least=1)
        first = self.new is self.context or (is_scalar(self.new) and is_scalar(self.context) and new == context)
        for name in ("source", "images", "prefix"):
            whole, fresh = plain(getattr(self, name)), plain(getattr(self, f"new_{name}"))
            fresh = (whole if first else 0) if fresh is None else fresh
            for key, value in ((name, whole), (f"new_{name}", fresh)):
                _check_count(key, value, least=0)
                object.__setattr__(self, key, value)
        if not isinstance(self.train, bool):
            raise SpecError(f"train={self.train!r} must be true or false")
        if self.logits not in ("all", "last"):
            raise SpecError(f"logits={self.logits!r} must be all or last")
        for condition, sentence in self.rules():
            if condition is False:
                raise SpecError(sentence())

    def rules(self) -> Iterator[Rule]:
        """What must hold between its sizes; on columns a condition is a mask."""
        new, context = self.new, self.context
        yield (
            at_most(new, context),
            lambda: f"new={new} must not exceed context={context}, which counts the new tokens too",
        )
        if self.train:
            yield same(new, context), lambda: f"training needs new = context, not new={new} and context={context}"
        yield (
            at_most(self.prefix, context),
            lambda: f"prefix={self.prefix} must not exceed context={context}, which counts it too",
        )
        yield (
            same(self.new_prefix, 0) | same(new, context),
            lambda: (
                f"new_prefix={self.new_prefix} needs new = context, not new={new}: a prefix comes with the first tokens"
            ),
        )
        yield (
            at_most(self.new_images, self.images),
            lambda: f"new_images={self.new_images} must not exceed images={self.images}",
        )
        yield self._whole("source", "an encoder reads it whole")
        yield self._whole("prefix", "its tokens all see each other")

    def _whole(self, name: str, why: str) -> Rule:
        whole, fresh = getattr(self, name), getattr(self, f"new_{name}")
        return same(fresh, 0) | same(fresh, whole), lambda: f"new_{name}={fresh} must be 0 or {name}={whole}: {why}"

    @property
    def logit_rows(self) -> Number:
        """Rows of logits a sequence."""
        return self.new if self.logits == "all" else 1

    def resized(self, batch: Number, context: Number) -> Workload:
        """The prefill of other sizes. A source or a prefix as long as the context stays as long as it."""
        sizes = {}
        for name in ("source", "prefix"):
            own = getattr(self, name)
            follows = own is self.context or (is_scalar(self.context) and self.context == own)
            sizes[name] = sizes[f"new_{name}"] = context if follows else own
        return dataclasses.replace(self, batch=batch, new=context, context=context, new_images=self.images, **sizes)

    def frame(self, stack: Stack) -> Workload | Frame:
        """What the rows of a stack see of it."""
        if stack.reads == "images":
            return Frame(self.batch * self.new_images, stack.length, stack.length, 0)
        if stack.reads == "source":
            return Frame(self.batch, self.new_source, self.source, self.new_source, new_images=self.new_images)
        return self

    def decode(self) -> Workload:
        """One decode step that ends at the same context: nothing of source, images and prefix is new."""
        return dataclasses.replace(self, new=1, train=False, new_source=0, new_images=0, new_prefix=0)

    def prefill(self) -> Workload:
        """The whole context at once."""
        whole = {"new_source": self.source, "new_images": self.images, "new_prefix": self.prefix}
        return dataclasses.replace(self, new=self.context, train=False, **whole)


def _check_count(name: str, value: Any, least: int) -> None:
    if not (is_column(value) or is_symbol(value) or (is_whole(value) and value >= least)):
        raise SpecError(f"{name}={value!r} must be a whole number of {least} or more")
    if is_whole(value) and value > MOST_TOKENS:
        raise SpecError(f"{name}={value} must be at most {MOST_TOKENS:,}")
