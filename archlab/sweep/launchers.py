"""The launchers that run a sweep's jobs: which there are, what they need, and whether their settings can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.paths import data_dir, user_dir

LAUNCHER = "hydra/launcher"
SETTING = "hydra.launcher."
HERE = "basic"

_PLUGINS = {
    "joblib": ("hydra_joblib_launcher", "launchers"),
    "slurm": ("hydra_submitit_launcher", "launchers"),
    "slurm_local": ("hydra_submitit_launcher", "launchers"),
    "submitit_slurm": ("hydra_submitit_launcher", "launchers"),
    "submitit_local": ("hydra_submitit_launcher", "launchers"),
    "ray": ("hydra_ray_launcher", "ray"),
    "ray_aws": ("hydra_ray_launcher", "ray"),
}
"""Launcher -> its plugin of Hydra, and the extra of archlab that installs it."""

_FILES = {"joblib": "on_joblib", "ray": "on_ray"}
"""Launcher -> archlab's settings of it, where Hydra's plugin has that name for its own."""

_CONFIG = ("--config", "-cd", "-cp")


def checked(settings: Mapping[str, str], flags: Sequence[str]) -> dict[str, str]:
    """A command line's settings, its launcher with archlab's defaults. Raises ArchlabError for one that cannot run."""
    if LAUNCHER not in settings:
        for key in (k for k in settings if k.startswith(SETTING)):
            raise SpecError(f"{key} is a setting of a launcher; say which, as {LAUNCHER}=joblib")
        return dict(settings)
    name = settings[LAUNCHER].partition("=")[2]
    own = [*flags, settings.get("hydra.searchpath", "")]
    _check_name(name, elsewhere=any(word.startswith(_CONFIG) or "://" in word for word in own))
    if name in _PLUGINS:
        _check_settings(name, {k: w for k, w in settings.items() if k.startswith(SETTING)})
    return {**settings, LAUNCHER: f"{LAUNCHER}={_FILES.get(name, name)}"}


def _check_name(name: str, elsewhere: bool) -> None:
    """Raises ArchlabError for a launcher that there is not, or whose plugin is not installed.

    elsewhere  it may be in a folder that only Hydra knows
    """
    if name in _PLUGINS:
        plugin, extra = _PLUGINS[name]
        if not _is_installed(f"hydra_plugins.{plugin}"):
            raise SpecError(f'{LAUNCHER}={name} needs a plugin that is not installed; pip install "archlab[{extra}]"')
        return
    folders = (data_dir("conf"), user_dir())
    found = {path.stem for folder in folders for path in (folder / LAUNCHER).glob("*.yaml")} - {*_FILES.values()}
    known = {HERE, *_PLUGINS, *found}
    if name not in known and not elsewhere:
        raise UnknownNameError(f"unknown launcher {name!r}{nearest(name, known)} (known: {', '.join(sorted(known))})")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # none of Hydra's plugins is
        return False


def _check_settings(name: str, given: Mapping[str, str]) -> None:
    """Raises ArchlabError for a setting that the launcher has not, or a value that it cannot have."""
    config = _settings_of(name) if given else OmegaConf.create()
    for key, word in given.items():
        path = key.removeprefix(SETTING)
        outer, _, last = path.rpartition(".")
        section = OmegaConf.select(config, outer) if outer else config
        known = [str(k) for k in section if k != "_target_"] if isinstance(section, DictConfig) else []
        if last not in known and not word.startswith("+"):
            raise UnknownNameError(f"unknown key {key}{nearest(last, known)} (known: {', '.join(known)})")
        try:
            OmegaConf.update(config, path, OverridesParser.create().parse_override(word).value())
        except OmegaConfBaseException as problem:
            raise SpecError(f"{word} cannot be: {str(problem).splitlines()[0]}") from None


def _settings_of(name: str) -> Any:
    """A launcher's settings as its plugin has them, with archlab's laid over them."""
    Plugins.instance()  # they register their settings
    own = data_dir("conf") / LAUNCHER / f"{_FILES.get(name, name)}.yaml"
    file = OmegaConf.load(own) if own.is_file() else OmegaConf.create()
    defaults = file.pop("defaults", [name]) if isinstance(file, DictConfig) else [name]
    node = ConfigStore.instance().load(f"{LAUNCHER}/{defaults[0]}.yaml").node
    return OmegaConf.merge(node, file)
