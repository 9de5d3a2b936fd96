"""config.json of a repository on the Hugging Face Hub: fetched when someone writes hf:ORG/NAME, and never otherwise."""

from __future__ import annotations

from pathlib import Path

from archlab.errors import SpecError

PREFIX = "hf:"


def fetched(model: str) -> Path:
    """The local copy of hf:ORG/NAME's config.json. Raises SpecError with one sentence where it cannot be had."""
    name = model.removeprefix(PREFIX)
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    except ModuleNotFoundError:
        raise SpecError(f"{model} needs the package huggingface_hub: pip install 'archlab[hf]'") from None
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=5)  # fails at once; the next tries for 20 s
        return Path(hf_hub_download(name, "config.json"))
    except (
        Exception
    ) as problem:  # a name, a licence, a network: the library raises a dozen types of its own and httpx's
        reason = " ".join(str(problem).split()).partition(". ")[0] or type(problem).__name__
        raise SpecError(f"{model} cannot be fetched: {reason[:200]}") from None
