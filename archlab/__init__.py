"""archlab: parameters, FLOPs, KV cache, memory and latency of Gemma-style decoders, and the decoders themselves.

    spec = archlab.load("gemma-2-9b", {"attention.n_kv_heads": 1})
    archlab.params(spec).total
    archlab.flops(spec, archlab.Workload(new=8192)).total
    archlab.kv_cache(spec, context=131072).total

Names are imported when they are used: `import archlab` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_FACE = {
    "models": "presets", "load": "presets",
    "Workload": "workload", "Precision": "precision", "ModelSpec": "spec",
    "params": "analyzers.params", "flops": "analyzers.flops", "kv_cache": "analyzers.kv_cache",
    "activations": "analyzers.activations",
    "memory": "analyzers.memory", "fit": "analyzers.fit", "Parallel": "parallel", "Training": "analyzers.training",
    "latency": "analyzers.latency", "formula": "analyzers.formula",
    "evaluate": "sweep.evaluate", "build": "nn.build", "measure": "", "errors": "", "hf": "", "ledger": "",
}  # fmt: skip

if TYPE_CHECKING:
    from archlab import errors, hf, ledger, measure
    from archlab.analyzers.activations import activations
    from archlab.analyzers.fit import fit
    from archlab.analyzers.flops import flops
    from archlab.analyzers.formula import formula
    from archlab.analyzers.kv_cache import kv_cache
    from archlab.analyzers.latency import latency
    from archlab.analyzers.memory import memory
    from archlab.analyzers.params import params
    from archlab.analyzers.training import Training
    from archlab.nn.build import build
    from archlab.parallel import Parallel
    from archlab.precision import Precision
    from archlab.presets import load, models
    from archlab.spec import ModelSpec
    from archlab.sweep.evaluate import evaluate
    from archlab.workload import Workload


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'archlab' has no attribute {name!r}")
    home = _FACE[name]
    found = import_module(f"archlab.{home or name}")
    return getattr(found, name) if home else found


def __dir__() -> list[str]:
    return [*_FACE, "__version__"]
