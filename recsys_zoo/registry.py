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
    model, *tags = name.split(".")
    presets: dict[str, dict[str, Any]] = getattr(cls, "presets", {})
    merged: dict[str, Any] = {}
    for tag in tags:
        if tag not in presets:
            raise unknown_name(f"preset of {model}", tag, presets)
        merged = merge(merged, presets[tag])
    return merged


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries joined, `over` winning."""
    joined = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = merge(joined[key], value) if both else value
    return joined
