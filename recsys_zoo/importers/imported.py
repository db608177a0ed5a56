"""What the import of another library's configuration gives, how it is written, and how YAML is read."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ..config import write_toml
from ..errors import InputError
from ..files import write_whole
from ..train.config import TrainConfig


@dataclass
class Imported:
    """A recipe and, where the data set is described, a schema, as nested plain values; what differs.

    `source` is the library, `prepare` the arguments of `recsys-zoo prepare` that name the files, if known.
    """

    source: str
    recipe: dict[str, Any]
    schema: dict[str, Any] | None = None
    differences: list[str] = field(default_factory=list)
    prepare: str = ""


def write_imported(found: Imported, out: Path, schema: Path | None = None) -> list[str]:
    """Write the recipe (and the schema file) with the differences as comments; returns what to tell.

    InputError when a file is there already, or when a schema is asked for and the columns are not known.
    """
    for path in filter(None, (out, schema)):
        if path.exists():
            raise InputError(f"{path}: exists already; choose another name")
    if schema is not None and schema.resolve() == out.resolve():
        raise InputError(f"{out}: is to be both the recipe and the schema file; choose two names")
    if schema is not None and found.schema is None:
        raise InputError(f"--schema {schema}: {found.differences[-1]}")
    said = "".join(
        f"# {line}\n" for line in (f"From a {found.source} configuration. It differs:", *found.differences)
    )
    write_whole(out, said + write_toml(found.recipe))
    lines = [f"wrote {out}", *(f"differs: {line}" for line in found.differences)]
    if schema is not None and found.schema is not None:
        write_whole(schema, said + write_toml(found.schema))
        lines.insert(1, f"wrote {schema}")
        files, name = found.prepare or "FILE...", shlex.quote(str(schema))
        lines.append(f"next: recsys-zoo prepare {files} --schema {name} --out DIR")
    return lines


def read_yaml(path: Path) -> dict[str, Any]:
    """The table of a YAML file; InputError when it is missing, no YAML or no table."""
    try:
        import yaml
    except ImportError:
        raise InputError("reading YAML needs PyYAML: pip install 'recsys-zoo[import]'") from None
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _loader(yaml))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; name a file") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: is no table of settings, as a configuration is")
    return values


def _loader(yaml: Any) -> Any:
    """The safe loader, but that 1e-3 is the number that was meant; YAML 1.1 reads it as a text."""
    loader = type("Loader", (yaml.SafeLoader,), {})
    exponent = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
    loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+.0123456789"))
    return loader


def has_first_order(model: dict[str, Any]) -> bool:
    """Whether a translated model adds up one weight a value."""
    return bool(
        model["name"] in ("lr", "fm", "ffm", "fmfm", "afm", "nfm", "wide_deep", "deepfm", "xdeepfm")
        or model.get("wide")
        or model.get("linear_type") == "LW"
    )


def number(value: Any, what: str, kind: type[int] | type[float] = float) -> Any:
    """A value of a configuration as a number; InputError names `what` where it is none."""
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} = {value!r}: is no number") from None


def optimizer(key: str, value: Any, train: dict[str, Any], differences: list[str]) -> None:
    """The rule by which weights move, by its name in torch; one that is not here becomes Adam: it is said."""
    name = str(value).lower()
    if name in get_args(TrainConfig.model_fields["optimizer"].annotation):
        train["optimizer"] = name
    else:
        differences.append(f"{left_out(key, value)}; Adam trains here")


def left_out(key: str, value: Any) -> str:
    """The line for an option that has no setting here."""
    return f"{key} = {value!r} has no counterpart and is left out: the run is another one"


def fill_settings(model: dict[str, Any], targets: str, value: Any) -> None:
    """Give one value to all settings named in `targets` ("a b"); null means an empty list (no layers)."""
    for target in targets.split():
        model[target] = [] if value is None else value


def check(found: Imported) -> None:
    """InputError where a translated value is none that our settings take, said before anything is written."""
    from ..data.spec import DataSpec
    from ..zoo import resolve

    where = f"the {found.source} configuration, translated"
    settings = dict(found.recipe["model"])
    resolve(settings.pop("name"), settings, f"{where}: model")
    TrainConfig.parse(found.recipe["train"], f"{where}: train")
    if found.schema is not None:
        DataSpec.parse(found.schema, f"{where}: schema")
