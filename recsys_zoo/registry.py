"""Names of model classes: the module's name is the registry name, presets are its dotted variants."""

from __future__ import annotations

from typing import Any, TypeVar

from .errors import InputError, unknown_name

T = TypeVar("T", bound=type)
_MODELS: dict[str, type] = {}


def register(cls: T) -> T:
    """Class decorator: makes a model known under its module's name (`models/ctr/fm.py` -> "fm")."""
    name = cls.__module__.rpartition(".")[2]
    held = _MODELS.get(name)
    if held is not None and (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
        raise InputError(
            f"two models are named {name!r}: {held.__module__} and {cls.__module__}; rename one module"
        )
    _MODELS[name] = cls
    return cls


def registered() -> dict[str, type]:
    """All model classes imported so far, by name."""
    return dict(_MODELS)


def preset_settings(cls: type, name: str) -> dict[str, Any]:
    """Settings of "model.preset.preset": the presets are merged from left to right."""
    return _over({}, _tags(cls, name), getattr(cls, "presets", {}))


def preset_training(cls: type, name: str) -> dict[str, Any]:
    """What "model.preset.preset" says of its training: the class's defaults, then those of the presets."""
    return _over(getattr(cls, "train_defaults", {}), _tags(cls, name), getattr(cls, "preset_training", {}))


def _tags(cls: type, name: str) -> list[str]:
    model, *tags = name.split(".")
    known = getattr(cls, "presets", {})
    for tag in tags:
        if tag not in known:
            raise unknown_name(f"preset of {model}", tag, known)
    return tags


def _over(base: dict[str, Any], tags: list[str], said: dict[str, dict[str, Any]]) -> dict[str, Any]:
    for tag in tags:
        base = merge(base, said.get(tag, {}))
    return base


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries joined, `over` winning."""
    joined = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = merge(joined[key], value) if both else value
    return joined
