"""A config.json read strictly: each key is taken once, with its meaning, and a key that nobody took is an error.

A key that the file leaves out has the default of transformers' configuration class (`defaults`), not a guess. Keys
without effect on the architecture are named in IDLE.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from archlab.errors import SpecError, nearest
from archlab.fields import MOST_LAYERS, FieldType


def _int(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < 1e300


MOST = 10**15
"""No size of a model is above it; arithmetic with those up to it stays exact and quick."""
WHOLE = FieldType("a whole number of 1 or more", lambda x: _int(x) and 1 <= x <= MOST)
COUNT = FieldType("a whole number of 0 or more", lambda x: _int(x) and 0 <= x <= MOST)
LAYERS = FieldType(
    f"a whole number of 1 or more, and {MOST_LAYERS:,} at most", lambda x: _int(x) and 1 <= x <= MOST_LAYERS
)
PAIR = FieldType(
    "a list of two whole numbers of 1 or more",
    lambda x: isinstance(x, list | tuple) and len(x) == 2 and all(_int(n) and 1 <= n <= MOST for n in x),
)
NUMBER = FieldType("a number above 0", _number)
SHARE = FieldType(
    "a number from 0 to 1", lambda x: isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1
)
FLAG = FieldType("true or false", lambda x: isinstance(x, bool))
WORD = FieldType("a word", lambda x: isinstance(x, str))
WORDS = FieldType("a list of words", lambda x: isinstance(x, list) and bool(x) and all(isinstance(w, str) for w in x))
MAPPING = FieldType("a mapping of keys", lambda x: isinstance(x, Mapping))
ANY = FieldType("anything", lambda x: True)

IDLE = {
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_name_or_path",
    "allow_global_per_layer_attribute_access", "architectures", "attn_implementation", "bad_words_ids",
    "begin_suppress_tokens", "boa_token_id", "boa_token_index", "boi_token_id", "boi_token_index", "bos_token_id",
    "cache_implementation", "chunk_size_feed_forward", "classifier_dropout_rate",
    "decoder_start_token_id", "diversity_penalty", "do_sample", "dropout_rate", "dtype", "early_stopping",
    "encoder_no_repeat_ngram_size", "eoa_token_id", "eoa_token_index", "eoi_token_id", "eoi_token_index",
    "eos_token_id", "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id",
    "forced_eos_token_id", "hidden_act_dropout", "id2label", "ignore_index", "initializer_factor",
    "initializer_range", "is_decoder", "is_encoder_decoder", "label2id", "length_penalty", "max_length", "min_length",
    "model_type", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_scores", "pad_token_id", "prefix", "problem_type",
    "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate",
    "sep_token_id", "serialize_explicit_per_layer_config", "suppress_tokens", "task_specific_params", "temperature",
    "tf_legacy_loss", "tie_last_hidden_states", "tokenizer_class", "top_k", "top_p",
    "torch_dtype", "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache", "video_token_id",
    "attention_dropout", "embedding_dropout", "transformers.js_config", "auto_map", "label_names",
    "num_classes",
}  # fmt: skip
"""Keys that change no number of the model when it is read or run: token ids, sampling, labels, training, provenance."""


NEUTRAL = {
    "add_cross_attention": "the decoder has none",
    "cross_attention_hidden_size": "the decoder has none",
    "pruned_heads": "all heads of a layer are of one width and none is taken out",
    "quantization_config": "a number format is no part of a model; `precision` says one",
    "tie_encoder_decoder": "encoder and decoder have weights of their own",
}
"""Keys that change the model unless they are null, false or empty -> why they must be."""


def shown(value: Any) -> str:
    """A value as JSON says it, shortened."""
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):  # keys that are no words, numbers of thousands of digits, circles
        return f"({type(value).__name__})"
    return text if len(text) <= 80 else f"{text[:77]}..."


def short(word: str, quotes: bool = True) -> str:
    """A word of the file as a sentence names it: quoted, and not longer than a line."""
    cut = word if len(word) <= 60 else f"{word[:57]}..."
    quoted = repr(cut)
    return quoted if quotes else quoted[1:-1]


class Reader:
    """The keys of a config.json, or of a part of it at `where` ("text_config.")."""

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any], where: str = "") -> None:
        self.config, self.defaults, self.where = config, defaults, where
        self._taken: set[str] = set()

    def take(self, key: str, kind: FieldType = ANY, none: bool = False) -> Any:
        """The value of a key, or its class default. Raises SpecError for a wrong type, or where there is neither."""
        self._taken.add(key)
        if key not in self.config and key not in self.defaults and not none:
            raise SpecError(f"{self.where}{key} is missing, and {self.model_type} has no default for it")
        value = self.config.get(key, self.defaults.get(key))
        if none and value is None:
            return None
        if not kind.test(value):
            raise SpecError(f"{self.where}{key}={shown(value)} must be {kind.words}{' or null' if none else ''}")
        return value

    def word(self, key: str, meanings: Mapping[Any, Any]) -> Any:
        """What a word of a few means. Raises SpecError for another one."""
        value = self.take(key)
        if isinstance(value, list | dict) or value not in meanings:
            known = ", ".join(shown(word).strip('"') for word in meanings)
            hint = nearest(value, [w for w in meanings if isinstance(w, str)]) if isinstance(value, str) else ""
            raise SpecError(f"{self.where}{key}={shown(value)} is not read; it must be one of {known}{hint}")
        return meanings[value]

    def only(self, key: str, *values: Any, why: str) -> None:
        """Takes a key that must have one of a few values. Raises SpecError with the reason otherwise."""
        value = self.take(key, none=True)
        if not any(value is allowed or (value == allowed and not isinstance(value, bool)) for allowed in values):
            raise SpecError(f"{self.where}{key}={shown(value)} cannot be described: {why}")

    def given(self, key: str) -> bool:
        """Whether the file says the key, other than as null."""
        return self.config.get(key) is not None

    def ignore(self, *keys: str) -> None:
        """Keys that are known and have no effect on this model."""
        self._taken.update(keys)

    def below(self, key: str, defaults: Mapping[str, Any]) -> Reader:
        """The reader of a section; one that the file leaves out has the class defaults throughout."""
        value = self.take(key, MAPPING, none=True) if key in self.config else None
        return Reader(value or {}, defaults, f"{self.where}{key}.")

    @property
    def model_type(self) -> str:
        """What the section calls itself."""
        return short(str(self.config.get("model_type", self.defaults.get("model_type", "this model"))), quotes=False)

    def done(self) -> None:
        """Raises SpecError for a key that nobody took and that is not known to be without effect."""
        known = {*self._taken, *self.defaults}
        for key, value in self.config.items():
            if key in NEUTRAL and key not in self._taken:
                if value not in (None, False, {}, []):
                    raise SpecError(f"{self.where}{key}={shown(value)} cannot be described: {NEUTRAL[key]}")
            elif key not in self._taken and key not in IDLE:
                unknown = f"{self.where}{short(str(key), quotes=False)}"
                raise SpecError(
                    f"unknown key {unknown} in a config.json of {self.model_type}, which might change the "
                    f"architecture{nearest(key, sorted(known))}"
                )
