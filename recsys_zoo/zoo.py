"""Models by name: create one (imports its file alone) or list them all."""

from __future__ import annotations

import importlib
import pkgutil
from fnmatch import fnmatch
from typing import Any

import torch

from . import models
from .errors import UnknownName, unknown_name
from .models.base import Model
from .registry import merge, preset_settings, registered
from .schema import Schema

_FAMILIES = ("ctr", "retrieval")


def _files() -> dict[str, str]:
    """Registry name -> module, from the file names alone; nothing is imported."""
    found = {}
    for family in _FAMILIES:
        for path in models.__path__:
            for info in pkgutil.iter_modules([f"{path}/{family}"]):
                if not info.name.startswith("_"):
                    found[info.name] = f"{models.__name__}.{family}.{info.name}"
    return found


def model_class(name: str) -> type[Model]:
    """The class behind "autoint" or "autoint.plus"; UnknownName with near matches."""
    base = name.partition(".")[0]
    files = _files()
    if base not in registered():
        if base in files:
            importlib.import_module(files[base])
        else:
            _load_plugins()
    if base not in registered():
        raise unknown_name("model", base, {*files, *registered()}, "`recsys-zoo list` shows them")
    return registered()[base]


def newer_settings(name: str) -> dict[str, Any]:
    """Defaults of the settings of a model that older rows have not (see `ModelConfig`)."""
    try:
        config = model_class(name).Config
    except UnknownName:  # a floor, or a model that is gone
        return {}
    return {key: config.model_fields[key].default for key in getattr(config, "newer", ())}


def _load_plugins() -> None:
    from importlib.metadata import entry_points

    for entry in entry_points(group="recsys_zoo.models"):
        entry.load()


def resolve(name: str, settings: dict[str, Any] | None = None, where: str = "") -> tuple[type[Model], Any]:
    """The class and its complete settings: defaults, then the name's presets, then `settings`."""
    cls = model_class(name)
    return cls, cls.Config.parse(merge(preset_settings(cls, name), settings or {}), where or name)


def create(name: str, schema: Schema, seed: int | None = None, **settings: Any) -> Model:
    """Build a model from its registry name, a schema and settings.

    create("autoint.plus", schema, embedding={"dim": 10}, layers=3). With `seed` the initial weights are
    reproducible and the global random state is left as it was. Raises UnknownName or InputError with near
    matches.
    """
    cls, cfg = resolve(name, settings)
    if seed is None:
        return cls(cfg, schema)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(cfg, schema)


def list_models(pattern: str = "*", family: str = "") -> list[str]:
    """Registry names that match a wildcard pattern, presets included ("autoint.plus"), sorted."""
    for module in _files().values():
        importlib.import_module(module)
    _load_plugins()
    names = []
    for name, cls in registered().items():
        if family and cls.card.family != family:
            continue
        names += [name, *(f"{name}.{preset}" for preset in cls.presets)]
    return sorted(n for n in names if fnmatch(n, pattern))
