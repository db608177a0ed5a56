"""Frozen settings: unknown keys refused with near matches, read from and written to TOML."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
from pydantic import BaseModel, ConfigDict

from .errors import InputError, unknown_name


@dataclass(frozen=True)
class Search:
    """What tuning may make of a setting; stands beside its type: `Annotated[float, Search(low=0, high=1)]`.

    Either a range from `low` to `high`, both included (`log`: even in the logarithm; `step`: a grid from
    `low` on; `zero`: 0 is there too, as often as all the range), or `choices`, any values that TOML has.

    `when` names the setting beside it on which it depends: "hidden" (not empty, false or 0) or
    "structure=stacked|parallel"; otherwise it has no effect and is not tuned. A setting that names itself is
    tuned only where the recipe has it: the recipe decides whether there is an MLP, tuning how wide it is.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    zero: bool = False
    choices: tuple[Any, ...] = ()
    when: str = ""

    def __post_init__(self) -> None:
        if self.choices:
            if self.low is not None or self.high is not None or self.log or self.step or self.zero:
                raise InputError("choices and a range exclude each other; give one of them")
            return
        if self.low is None or self.high is None:
            raise InputError("give low and high, or choices")
        if not self.low < self.high:
            raise InputError(f"low = {self.low} is not below high = {self.high}")
        if self.log and (self.low <= 0 or self.step):
            raise InputError("log needs a low above 0, and no step")
        if self.step is not None and self.step <= 0:
            raise InputError(f"step = {self.step} is not above 0")
        if self.zero and self.low <= 0:
            raise InputError("zero goes with a low above 0")


Flag = Annotated[bool, Search(choices=(False, True))]


class Frozen(BaseModel):
    """Base of every settings class: immutable, typed, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> Self:
        """Build from plain values; InputError names `where`, the dotted key, the value and near matches."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise InputError(_sentence(cls, error, where)) from None

    def searches(self, prefix: str = "") -> dict[str, Search]:
        """The declared ranges of all settings by dotted name, nested ones included."""
        found: dict[str, Search] = {}
        for name, info in type(self).model_fields.items():
            for entry in info.metadata:
                if isinstance(entry, Search):
                    found[prefix + name] = entry
            if isinstance(getattr(self, name), Frozen):
                found |= getattr(self, name).searches(f"{prefix}{name}.")
        return found

    def digest(self) -> str:
        """SHA-256 of the canonical JSON (sorted keys), as 64 hex digits."""
        return json_digest(self.model_dump(mode="json"))


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sentence(cls: type[BaseModel], error: pydantic.ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        owner = _owner(cls, first["loc"][:-1])
        fields = owner.model_fields if owner else {}
        known = {_beside(path, name): info.description or "" for name, info in fields.items()}
        return f"{where}: {unknown_name('setting', path, known, meanings=known)}"
    if first["type"] == "missing":
        return f"{where}: the setting {path!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch" and (owner := _owner(cls, first["loc"][:-1])):
        message = f"give {owner.model_fields[first['loc'][-1]].description}"
    message = (message[0].lower() + message[1:]).replace("tuple", "list")  # TOML has no tuples
    shown = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
    return f"{where}: {path}{shown}: {message}" if path else f"{where}: {message}"


def _beside(path: str, name: str) -> str:
    head = path.rpartition(".")[0]
    return f"{head}.{name}" if head else name


def _owner(cls: type[BaseModel], loc: tuple) -> type[BaseModel] | None:
    """The settings class at the end of a validation path, or None where it is not a settings class."""
    owner: Any = cls
    for part in loc:
        if isinstance(part, int):
            continue
        field = owner.model_fields.get(part) if isinstance(owner, type) else None
        if field is None:
            return None
        owner = next(
            (
                a
                for a in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if isinstance(a, type) and issubclass(a, BaseModel)
            ),
            None,
        )
        if owner is None:
            return None
    return owner


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; InputError with the parser's line and column when it is not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; name a file") from None


def read_json(path: Path) -> Any:
    """Parse a JSON file that a run wrote; InputError when it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged, not valid JSON: {error}; make the run again") from None


def write_toml(values: dict[str, Any]) -> str:
    """TOML text of nested plain values (str, bool, int, float, list, dict); None has no TOML form."""
    lines: list[str] = []
    _write_table(values, "", lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: dict[str, Any], prefix: str, lines: list[str]) -> None:
    nested = {k: v for k, v in table.items() if _is_table(v)}
    for key, value in table.items():
        if key not in nested:
            lines.append(f"{_key(key)} = {toml_value(value)}")
    for key, value in nested.items():
        name = f"{prefix}{_key(key)}"
        if isinstance(value, dict):
            lines += ["", f"[{name}]"]
            _write_table(value, f"{name}.", lines)
        else:
            for item in value:
                lines += ["", f"[[{name}]]"]
                _write_table(item, f"{name}.", lines)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)
    )


def _key(key: str) -> str:
    bare = key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key)
    return key if bare else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_value(value: Any) -> str:
    """A plain value as TOML writes it; ValueError for None."""
    if value is None:
        raise ValueError('TOML has no null; use a "none" literal in the settings class')
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        text = repr(value)
        return text if any(c in text for c in ".en") else f"{text}.0"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return str(value)


def set_dotted(values: dict[str, Any], assignment: str) -> None:
    """Apply one command-line `key.sub=value`; the value is read as TOML, else kept as text."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {assignment}: write it as key=value, for example --set model.layers=3")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    for part in parents:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {assignment}: {part!r} is not a group of settings")
    values[last] = value


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted name as tables of tables.

    >>> nested({"model.dim": 8, "train.lr": 0.1})
    {'model': {'dim': 8}, 'train': {'lr': 0.1}}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        at = found
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value
    return found
