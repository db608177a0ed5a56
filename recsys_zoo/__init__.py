"""recsys_zoo: recommendation models that share one embedding layer, one trainer and one evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .estimator import CTRClassifier
    from .predictor import load
    from .ranker import load_ranker
    from .schema import Column, Schema
    from .zoo import create, list_models

__all__ = ["CTRClassifier", "Column", "Schema", "create", "list_models", "load", "load_ranker"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `recsys-zoo --help` starts without torch.
    if name in ("create", "list_models"):
        from . import zoo

        return getattr(zoo, name)
    if name in ("Schema", "Column"):
        from . import schema

        return getattr(schema, name)
    if name == "load":
        from .predictor import load

        return load
    if name == "load_ranker":
        from .ranker import load_ranker

        return load_ranker
    if name == "CTRClassifier":
        from . import estimator

        return estimator.CTRClassifier
    if name == "__version__":
        from importlib.metadata import version

        return version("recsys-zoo")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
