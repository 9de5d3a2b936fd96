"""What the layers remember, allocated once from the State rows: slots, a ring of the last W tokens, or one value.

Every layout is written and read under the path of its block and the name of its state.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from archlab.blocks.masks import keys_seen
from archlab.errors import ArchlabError
from archlab.rows import State


class CacheError(ArchlabError):
    """Tokens that a cache cannot take."""


class Slots:
    """A slot for each token of the context, in order."""

    def __init__(self, state: State, buffer: Tensor) -> None:
        self.buffer = buffer  # B S ...

    def append(self, fresh: Tensor, position: int) -> Tensor:
        """Writes fresh (B T ...) at `position`; returns all tokens so far (B S ...)."""
        end = position + fresh.shape[1]
        self.buffer[:, position:end] = fresh
        return self.buffer[:, :end].to(fresh.dtype)

    def fill(self, fresh: Tensor) -> None:
        """Writes the first tokens, B T ... ."""
        self.buffer[:, : fresh.shape[1]] = fresh

    def slot(self, position: int) -> int:
        """Where the token at `position` lies."""
        return position

    def held(self, tokens: int) -> Tensor:
        """The slots of so many tokens, B S ... ."""
        return self.buffer[:, :tokens]


class Ring:
    """The last `window` tokens: token i lies in slot i % capacity."""

    def __init__(self, state: State, buffer: Tensor) -> None:
        self.buffer, self.window = buffer, state.window  # B min(S, W) ...

    def append(self, fresh: Tensor, position: int) -> Tensor:
        """Returns the tokens that fresh (B T ...) sees, itself last (B U ...); then writes its last W."""
        new = fresh.shape[1]
        end = position + new
        seen = self.buffer.index_select(1, self._slots(end - keys_seen(new, end, self.window), position))
        kept = fresh[:, -self.window :]
        self.buffer.index_copy_(1, self._slots(end - kept.shape[1], end), kept.to(self.buffer.dtype))
        return torch.cat((seen.to(fresh.dtype), fresh), 1)

    def fill(self, fresh: Tensor) -> None:
        """Writes the first tokens, B T ...: of more than there are slots the last, each in its own."""
        capacity, new = self.buffer.shape[1], fresh.shape[1]
        wrapped = new % capacity if new > capacity else 0
        kept = fresh[:, -capacity:]
        self.buffer[:, wrapped : kept.shape[1]] = kept[:, : kept.shape[1] - wrapped]
        self.buffer[:, :wrapped] = kept[:, kept.shape[1] - wrapped :]

    def slot(self, position: int) -> int:
        """Where the token at `position` lies."""
        return position % self.buffer.shape[1]

    def held(self, tokens: int) -> Tensor:
        """The last of so many tokens, as many as there are slots, B W ...: in an order that attention does not see."""
        return self.buffer[:, :tokens]

    def _slots(self, start: int, end: int) -> Tensor:
        return torch.arange(start, end, device=self.buffer.device) % self.buffer.shape[1]


class Whole:
    """A value that is written whole: what a recurrence carries on, or the keys and values of a source."""

    def __init__(self, state: State, buffer: Tensor) -> None:
        self.buffer = buffer  # B slots ...
        self.length = buffer.shape[1]

    def write(self, fresh: Tensor) -> Tensor:
        """Keeps fresh (B n ...), of at most so many slots; returns it."""
        self.length = fresh.shape[1]
        self.buffer[:, : self.length] = fresh
        return fresh

    def read(self) -> Tensor:
        """What was written last; zeros before."""
        return self.buffer[:, : self.length]


LAYOUTS: dict[str, type[Slots] | type[Ring] | type[Whole]] = {
    "context": Slots, "window": Ring, "source": Whole, "constant": Whole,
}  # fmt: skip
"""Capacity of a State -> how it is laid out."""


class Cache:
    """States of `batch` sequences, each of up to `context` tokens, of which `position` have gone by.

    A source has up to `source` tokens; its states are written once, before or with the first token's.
    """

    def __init__(self, states: Mapping[str, Slots | Ring | Whole], batch: int, context: int, source: int = 0) -> None:
        self.states, self.batch, self.context, self.source = states, batch, context, source
        self.position = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(state.buffer.nbytes for state in self.states.values())

    def admit(self, batch: int, new: int, source: int = 0) -> None:
        """Raises CacheError unless so many tokens of so many sequences can follow, and so many of a source."""
        if batch != self.batch:
            raise CacheError(f"ids of {batch} sequences do not match the cache, which was made for batch={self.batch}")
        if self.position + new > self.context:
            after = f"{new} more tokens after {self.position}" if self.position else f"{new} tokens"
            raise CacheError(f"{after} overfill the cache, which was made for context={self.context}")
        if source > self.source:
            raise CacheError(f"{source} source tokens overfill the cache, which was made for source={self.source}")

    def append(self, path: str, name: str, fresh: Tensor) -> Tensor:
        """Writes a state of the new tokens; returns what they see of it."""
        return self.states[f"{path}.{name}"].append(fresh, self.position)  # type: ignore[union-attr]

    def write(self, path: str, name: str, fresh: Tensor) -> Tensor:
        """Writes a state whole (B slots ...); returns it."""
        return self.states[f"{path}.{name}"].write(fresh)  # type: ignore[union-attr]

    def read(self, path: str, name: str) -> Tensor:
        """A state that is written whole."""
        return self.states[f"{path}.{name}"].read()  # type: ignore[union-attr]

    def fill(self, path: str, **fresh: Tensor) -> None:
        """Writes states of the first tokens (B T ...)."""
        for name, tensor in fresh.items():
            self.states[f"{path}.{name}"].fill(tensor)  # type: ignore[union-attr]

    def slot(self, path: str, name: str) -> int:
        """Where the next token's state goes."""
        return self.states[f"{path}.{name}"].slot(self.position)  # type: ignore[union-attr]

    def held(self, path: str, name: str) -> Tensor:
        """What is held of a state once the next token's is written, B U ..., in any order."""
        return self.states[f"{path}.{name}"].held(self.position + 1)  # type: ignore[union-attr]

    def advance(self, new: int) -> None:
        """The new tokens have gone by."""
        self.position += new


class NoCache:
    """Nothing went before and nothing comes after: the new tokens see each other alone."""

    position = 0

    def admit(self, batch: int, new: int, source: int = 0) -> None:
        """All come in."""

    def append(self, path: str, name: str, fresh: Tensor) -> Tensor:
        """The new tokens' own states."""
        return fresh

    def fill(self, path: str, **fresh: Tensor) -> None:
        """There is nothing to write to."""

    def write(self, path: str, name: str, fresh: Tensor) -> Tensor:
        """The value itself."""
        return fresh

    def read(self, path: str, name: str) -> Tensor:
        """There is nothing to read."""
        raise CacheError(f"{path}.{name} was not remembered: without a cache each pass needs its source")

    def advance(self, new: int) -> None:
        """Nothing to count."""
