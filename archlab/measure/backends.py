"""Which of the two decoders is timed: the fast one where it covers the workload, else the reference, and why."""

from __future__ import annotations

from dataclasses import dataclass

from archlab.errors import ArchlabError, nearest
from archlab.nn.fast.claims import as_reference, obstacle
from archlab.spec import ModelSpec
from archlab.workload import Workload

BACKENDS = ("fast", "reference")


@dataclass(frozen=True)
class Backend:
    """fast | reference, and what kept it from being wholly fast: '' where nothing did, or nobody asked for speed."""

    name: str
    reason: str = ""


def backend_for(spec: ModelSpec, work: Workload, asked: str | None = None) -> Backend:
    """The one asked for; by default the fast one, and the reference where a workload would leave the fast way.

    Raises ArchlabError for an unknown word, and where "fast" is asked for and not there.
    """
    if check_backend(asked) == "reference":
        return Backend("reference")
    why = obstacle(spec, work)
    if why and asked == "fast":
        raise ArchlabError(
            f"backend=fast does not cover {spec.name} here: {why}; leave it out, and the reference is timed"
        )
    if why:
        return Backend("reference", why)
    slow = as_reference(spec)
    return Backend("fast", f"{' and '.join(slow)} as in the reference" if slow else "")


def check_backend(asked: str | None) -> str | None:
    """The word itself. Raises ArchlabError for one that is no backend."""
    if asked is not None and asked not in BACKENDS:
        raise ArchlabError(f"backend={asked!r} must be {' or '.join(BACKENDS)}{nearest(asked, BACKENDS)}")
    return asked
