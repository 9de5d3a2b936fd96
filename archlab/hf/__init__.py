"""Hugging Face in and out: config.json to a spec and back, checkpoints to a built model and back.

transformers is not needed: what a file leaves out is read from written-down class defaults, and tensors are found by
tables of names. Only `weights` imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_FACE = {
    "import_config": "configs",
    "export_config": "configs",
    "load_weights": "weights",
    "export_weights": "weights",
}

if TYPE_CHECKING:
    from archlab.hf.configs import export_config, import_config
    from archlab.hf.weights import export_weights, load_weights

__all__ = ["export_config", "export_weights", "import_config", "load_weights"]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'archlab.hf' has no attribute {name!r}")
    return getattr(import_module(f"archlab.hf.{_FACE[name]}"), name)


def __dir__() -> list[str]:
    return [*_FACE]
