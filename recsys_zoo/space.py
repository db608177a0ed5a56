"""What tuning may change of a recipe: the ranges its settings declare, as a tree, and draws from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from .config import Search, nested, read_toml, toml_value
from .errors import InputError, unknown_name
from .models.base import Scorer
from .registry import merge, preset_settings
from .runs import RunConfig
from .zoo import resolve

SHARED = ("model.embedding",)  # settings that every model has: a preset's are not what makes the variant
_KEYS = tuple(field.name for field in fields(Search))


class Suggests(Protocol):
    """What a draw asks for; a trial of optuna answers it."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float: ...


@dataclass(frozen=True)
class Space:
    """The settings of a recipe that are tuned, by dotted name ("model.dropout"), parents before children.

    `declared` holds fixed settings too: whether they are there decides what their children do.
    """

    base: RunConfig
    declared: dict[str, Search]
    tuned: tuple[str, ...]

    def draw(self, trial: Suggests) -> dict[str, Any]:
        """A value for every setting that is open; the others are not asked for and stay the recipe's."""
        values: dict[str, Any] = {}
        for name in self.tuned:
            if self.is_open(name, values):
                values[name] = self.suggest(trial, name)
        return values

    def suggest(self, trial: Suggests, name: str) -> Any:
        """A value for one setting."""
        search, kind = self.declared[name], type(self.own(name))
        if search.choices:
            texts = [toml_value(value) for value in search.choices]
            return search.choices[texts.index(trial.suggest_categorical(name, texts))]
        if search.zero and trial.suggest_categorical(f"{name} is 0", ["yes", "no"]) == "yes":
            return kind(0)
        if kind is int:
            step = int(search.step or 1)
            return trial.suggest_int(name, int(search.low), int(search.high), step=step, log=search.log)
        value = trial.suggest_float(name, search.low, search.high, step=search.step, log=search.log)
        return min(max(float(f"{value:.4g}"), search.low), search.high)  # a number that a recipe can show

    def own(self, name: str) -> Any:
        """The recipe's value of a setting."""
        value: Any = {"model": self.base.model, "train": self.base.train.model_dump(mode="json")}
        for part in name.split("."):
            value = value[part]
        return value

    def own_values(self) -> dict[str, Any]:
        """The recipe's values of the settings that are open in it: the first trial."""
        return {name: self.own(name) for name in self.tuned if self.is_open(name, {})}

    def is_open(self, name: str, values: dict[str, Any]) -> bool:
        """Whether a setting has an effect beside these values and the recipe's."""
        parent, wanted = _parent(name, self.declared)
        if not parent:
            return True
        if parent == name:
            return bool(self.own(name))
        value = values.get(parent, self.own(parent))
        return _fits(value, wanted) and (parent not in self.declared or self.is_open(parent, values))

    def configure(self, values: dict[str, Any]) -> RunConfig:
        """The recipe with these values; InputError where they do not go together."""
        settings = merge(self.base.model_dump(mode="json"), nested(values))
        return RunConfig.parse(settings, "tune").resolved()

    def record(self) -> dict[str, Any]:
        """The tuned settings with their ranges, as TOML and JSON write them."""
        return {name: _written(self.declared[name]) for name in self.tuned}

    def tree(self) -> str:
        """One line a setting, the settings that depend on another below it."""
        return "\n".join(self._branch("", 0))

    def _branch(self, parent: str, depth: int) -> Iterator[str]:
        for name in self.tuned:
            above, wanted = _parent(name, self.declared)
            above = above if above != name and above in self.tuned else ""
            if above != parent or name == parent:
                continue
            label = "  " * (depth + 1) + name
            where = f"  where {above.rpartition('.')[2]} is {' or '.join(wanted)}" if above and wanted else ""
            own = toml_value(self.own(name))
            yield f"{label:<40}  {worded(self.declared[name])}{where}  (recipe: {own})"
            yield from self._branch(name, depth + 1)


def space_of(
    cfg: RunConfig, fixed: Sequence[str] = (), only: Sequence[str] = (), file: Path | None = None
) -> Space:
    """The space of a resolved recipe.

    `fixed` settings (the user's own --set) are not tuned, nor is what the model's preset says and the recipe
    leaves as it is (the embedding's apart). `only` keeps these settings or groups; `file` (TOML:
    model.dropout = {low = 0, high = 0.3}) changes ranges and adds some; of what is fitted without a training
    those of train.* do nothing, so that one file can serve all models of a board. Ranges that do not come
    from there are widened to hold the recipe's own value. InputError names a setting that is not there, a
    range that is none, and a value that the setting refuses.
    """
    cls, model = resolve(cfg.model["name"], {k: v for k, v in cfg.model.items() if k != "name"})
    declared = model.searches("model.")
    trained = not issubclass(cls, Scorer)
    if trained:
        declared |= cfg.train.searches("train.")
    declared = {name: search for name, search in declared.items() if name not in cls.idle(model)}
    preset = _flat(preset_settings(cls, cfg.model["name"]), "model.")
    values = _flat(cfg.model, "model.") | _flat(cfg.train.model_dump(mode="json"), "train.")
    given = _read(file, values, declared) if file else {}
    given = {name: search for name, search in given.items() if trained or not _within(name, ["train"])}
    declared |= given
    kept = {name for name, value in preset.items() if name in declared and value == values[name]}
    kept -= {n for n in kept if n in given or _parent(n, declared)[0] == n or _within(n, SHARED)}
    tuned = [n for n in declared if n not in kept and not _within(n, fixed)]
    if only:
        for name in only:
            if not any(_within(n, [name]) for n in tuned):
                raise unknown_name("setting to tune", name, tuned)
        tuned = [n for n in tuned if _within(n, only)]
    space = Space(cfg, declared, tuple(_parents_first(tuned, declared)))
    open_now = space.own_values()
    widened = {n: _widened(declared[n], open_now[n]) for n in open_now if n not in given}
    space = replace(space, declared=declared | widened)
    reachable = tuple(n for n in space.tuned if _reachable(space, n))
    if not reachable:
        name = cfg.model["name"]
        raise InputError(f"{name}: no setting is left to tune; fix fewer, or name some in --space")
    space = replace(space, tuned=reachable)
    for name, search in given.items():
        for value in search.choices or (search.low, search.high):
            try:
                space.configure({name: value})
            except InputError as error:
                raise InputError(f"{file}: {name} cannot be {value!r}: {error}") from None
    return space


def worded(search: Search) -> str:
    """ "0.0001 to 0.01 in log, or 0", "0 to 0.5 by 0.1", "[400] | [400, 400]"."""
    if search.choices:
        return " | ".join(toml_value(value) for value in search.choices)
    step = f" by {search.step:g}" if search.step else ""
    return f"{search.low:g} to {search.high:g}{step}{', log' * search.log}{', or 0' * search.zero}"


def _parent(name: str, declared: dict[str, Search]) -> tuple[str, tuple[str, ...]]:
    """The setting that another depends on ("": none), and the values it must have (none: any but empty)."""
    when = declared[name].when
    if not when:
        return "", ()
    other, _, values = when.partition("=")
    return name.rpartition(".")[0] + "." + other, tuple(values.split("|")) if values else ()


def _parents_first(names: Sequence[str], declared: dict[str, Search]) -> Iterator[str]:
    done: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in done:
            return
        done.add(name)
        parent = _parent(name, declared)[0]
        if parent in names:
            yield from visit(parent)
        yield name

    for name in names:
        yield from visit(name)


def _fits(value: Any, wanted: Sequence[str]) -> bool:
    return str(value) in wanted if wanted else bool(value)


def _reachable(space: Space, name: str) -> bool:
    """Whether some draw opens a setting."""
    parent, wanted = _parent(name, space.declared)
    if not parent or parent == name:
        return space.is_open(name, {})
    values = (space.own(parent),)
    if parent in space.tuned:
        values = space.declared[parent].choices or (space.declared[parent].high,)
    opens = any(_fits(value, wanted) for value in values)
    return opens and (parent not in space.declared or _reachable(space, parent))


def _widened(search: Search, value: Any) -> Search:
    if search.choices:
        texts = [toml_value(choice) for choice in search.choices]
        return search if toml_value(value) in texts else replace(search, choices=(*search.choices, value))
    if value == 0 and (search.zero or search.log):
        return replace(search, zero=True)
    return replace(search, low=min(search.low, value), high=max(search.high, value))


def _read(file: Path, values: dict[str, Any], declared: dict[str, Search]) -> dict[str, Search]:
    found = {}
    for name, entry in _flat(read_toml(file), "", leaves=_KEYS).items():
        if name not in values:
            raise InputError(f"{file}: {unknown_name('setting', name, values)}")
        if not isinstance(entry, dict):
            raise InputError(f"{file}: {name}: write {{low = ..., high = ...}} or {{choices = [...]}}")
        for key in set(entry) - set(_KEYS):
            raise InputError(f"{file}: {name}: {unknown_name('key', key, _KEYS)}")
        before = declared.get(name)
        kept = {} if before is None else _written(before)
        if ("choices" in entry) != ("choices" in kept):
            kept = {"when": before.when} if before is not None else {}
        try:
            found[name] = _search(kept | entry)
        except InputError as error:
            raise InputError(f"{file}: {name}: {error}") from None
        parent = _parent(name, found)[0]
        if parent and parent not in values:
            raise InputError(f"{file}: {name}: when: {unknown_name('setting', parent, values)}")
    return found


def _search(entry: dict[str, Any]) -> Search:
    for key in ("low", "high", "step"):
        value = entry.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{key} = {value!r} is not a number")
    for key, kind in (("log", bool), ("zero", bool), ("when", str), ("choices", list)):
        if key in entry and not isinstance(entry[key], kind):
            raise InputError(f"{key} = {entry[key]!r} is not a {kind.__name__}")
    return Search(**{**entry, "choices": tuple(entry.get("choices", ()))})


def _written(search: Search) -> dict[str, Any]:
    keys = ("choices", "when") if search.choices else ("low", "high", "step", "log", "zero", "when")
    entry = {key: getattr(search, key) for key in keys}
    if search.choices:
        entry["choices"] = list(search.choices)
    return {key: value for key, value in entry.items() if value or (value == 0 and value is not False)}


def _within(name: str, groups: Sequence[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def _flat(values: dict[str, Any], prefix: str, leaves: Sequence[str] = ()) -> dict[str, Any]:
    """Dotted names and values; a table with one of the keys `leaves` is a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and not set(value) & set(leaves):
            found |= _flat(value, f"{prefix}{key}.", leaves)
        else:
            found[prefix + key] = value
    return found
