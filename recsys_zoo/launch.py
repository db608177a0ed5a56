"""What the commands do: find the recipe, the data and the folder, then run."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import audit, catalog, runs
from .board.draws import Bank, draws_of, kept_at, write_draws
from .board.key import by_key
from .board.rank import Ranking, main_metric, rank, read_quoted
from .board.rows import Row, config_digest, read_rows
from .board.scores import read_scores, score_files
from .board.skill import LEAST, Standing
from .config import read_toml, set_dotted
from .data.store import Prepared
from .errors import InputError, UnknownName, unknown_name
from .machine import run_command
from .registry import merge
from .runs import RunConfig


def configure(
    target: str, data: str, assignments: list[str], seed: int | None, device: str = ""
) -> RunConfig:
    """The settings of `recsys-zoo train TARGET DATA --set ...`.

    A model on data that a name stands for, instead of a folder, belongs to the board of that name.
    """
    overrides = settings(assignments)
    unknown = set(overrides) - set(RunConfig.model_fields)
    if unknown:
        raise InputError(
            f"--set {min(unknown)}: "
            f"{unknown_name('group of settings', min(unknown), RunConfig.model_fields)}; "
            "model settings begin with model., training settings with train."
        )
    if data:
        overrides["data"] = data
    if seed is not None:
        overrides = merge(overrides, {"train": {"seed": seed}})
    if device:
        overrides = merge(overrides, {"train": {"device": device}})
    recipe = catalog.find_recipe(target)
    if recipe is not None:
        cfg = runs.read_recipe(recipe, overrides)
    else:
        named = {"board": data} if data and "/" not in data and not Path(data).is_dir() else {}
        cfg = RunConfig.parse(merge({**named, "model": {"name": target}}, overrides), f"train {target}")
    if not cfg.data:
        raise InputError(f"train {target}: name the data: recsys-zoo train {target} PREPARED_FOLDER")
    return cfg.resolved()


def settings(assignments: list[str]) -> dict[str, Any]:
    """Nested settings of the --set options."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        set_dotted(values, assignment)
    return values


def default_folder(cfg: RunConfig, parent: Path = Path("runs")) -> Path:
    """runs/BOARD/MODEL/SETTINGS-seedN, where SETTINGS is the beginning of their digest."""
    settings_digest = config_digest(cfg.model_dump(mode="json"))[:8]
    return parent / cfg.board / cfg.model["name"] / f"{settings_digest}-seed{cfg.train.seed}"


def open_data(name: str, raw: Path | None = None) -> Prepared:
    """A prepared folder, or the data recipe of that name prepared under prepared/ (RECSYS_ZOO_PREPARED)."""
    if Path(name).is_dir():
        if raw is not None:
            raise InputError(f"--raw belongs to data recipes; {name} is a prepared folder")
        return Prepared.open(name)
    folder = Path(os.environ.get("RECSYS_ZOO_PREPARED", "prepared")) / name
    if raw is not None and (folder / "prepared.json").is_file():
        print(f"--raw {raw} is not read: {folder} was prepared before; remove it to prepare again")
    try:
        return Prepared.open(catalog.prepared_by_recipe(name, raw, folder))
    except UnknownName as error:
        raise InputError(f"no prepared folder {name!r} here, and {error}") from None


def run(cfg: RunConfig, folder: Path, raw: Path | None = None) -> Row:
    """Train one configured run."""
    data = open_data(cfg.data, raw)
    return runs.train(cfg, data, folder, command=run_command())


def run_config(folder: Path) -> RunConfig:
    """The settings a run folder was started with."""
    if not (folder / "config.toml").is_file():
        raise InputError(f"{folder}: no run here (config.toml is missing)")
    values = read_toml(folder / "config.toml")
    values.pop("data_digest", None)
    return RunConfig.parse(values, str(folder / "config.toml"))


def resume(folder: Path) -> Row:
    """Go on with an interrupted run; a finished one only returns its row."""
    cfg = run_config(folder)
    if (folder / "row.json").is_file():
        return runs.read_row(folder)
    return runs.train(cfg, data_of(folder, ""), folder, resume=True, command=run_command())


def data_of(run_folder: Path, given: str) -> Prepared:
    """The data set named on the command line, else the one the run was trained on, wherever we are now."""
    kept = run_folder / "data_path"
    if not given and kept.is_file() and (folder := Path(kept.read_text(encoding="utf-8"))).is_dir():
        return Prepared.open(folder)
    return open_data(given or run_config(run_folder).data)


def predict_file(run_folder: Path, file: Path, out: Path, batch_size: int) -> int:
    """Score a raw file, of pairs of users and items for a model that ranks; returns the number of rows
    written."""
    import polars as pl

    from .data.outfile import check_name, write_frames
    from .data.read import read_frame
    from .models.base import CTRModel
    from .predictor import load
    from .ranker import Ranker

    check_name(out)
    predictor = load(run_folder)
    if not isinstance(predictor.model, CTRModel):
        ranker, spec = Ranker(predictor), predictor.encoder.spec
        columns = [spec.raw_id("user"), spec.raw_id("item")]
        frame = read_frame(file, spec.read, columns)
        scores = ranker.probabilities(*(frame.get_column(name) for name in columns))
        return write_frames(out, [pl.DataFrame({"score": scores})])
    inputs = predictor.encoder.encode(read_frame(file, predictor.encoder.spec.read), str(file))
    scores = predictor.predict_inputs(inputs, batch_size)
    return write_frames(out, [pl.DataFrame({"score": scores})])


def _warnings(files: list[Path], row: Row) -> tuple[str, ...] | None:
    """What the audit of a row's data says; None where there is no audit."""
    for file in files:
        path = audit.file_beside(file, row.data_digest, row.config.get("label", ""))
        if path.is_file():
            return tuple(audit.read(path)["warnings"])
    return None


def bank_of(files: list[Path], scores: Path | None = None) -> Bank:
    """Resampled test metrics: kept beside the files, else made from the scores below `scores`."""
    at_hand = score_files(scores) if scores is not None and scores.is_dir() else {}
    return Bank(files, at_hand, lambda line: print(line, file=sys.stderr))


def rankings(files: list[Path], metric: str, bank: Bank) -> list[Ranking]:
    """One ranking a key, in order of appearance; keys without a row that counts are named on stderr.

    InputError when there is none that counts at all.
    """
    names = ", ".join(map(str, files))
    rows = [row for file in files for row in read_rows(file)]
    if not any(row.role == "model" for row in rows):
        raise InputError(f"{names}: holds no run of a model yet; `recsys-zoo board run` adds some")
    found, left = [], []
    for key, members in by_key(rows).items():
        table = catalog.published(key.board)
        try:
            ranking = rank(members, metric or main_metric(members), read_quoted(table) if table else (), bank)
        except UnknownName:
            raise
        except InputError as error:
            left.append(f"{key.board}, {key.origin}: {error}")
            continue
        if ranking.entries:
            found.append(replace(ranking, warnings=_warnings(files, ranking.entries[0].rows[0])))
    if not found:
        raise InputError(f"{names}: {'; '.join(left)}")
    for line in left:
        print(line, file=sys.stderr)
    return found


def show_board(files: list[Path], metric: str, scores: Path | None) -> None:
    """Print the rankings."""
    from .board.table import print_table

    for ranking in rankings(files, metric, bank_of(files, scores)):
        print_table(ranking)


def write_board_page(files: list[Path], out: Path, metric: str, scores: Path | None) -> None:
    """Write the rankings as one HTML file."""
    from .board.page import write_page

    found = rankings(files, metric, bank_of(files, scores))
    write_page(out, found, overall=skill_of(found))


def keep_draws(files: list[Path], scores: Path) -> tuple[int, int]:
    """Keep the resampled test metrics of the rows beside each file, as many as their runs would have kept.

    Returns how many are new and how many are missing.
    """
    at_hand, made, missing = score_files(scores) if scores.is_dir() else {}, 0, 0
    for file in files:
        for row in read_rows(file):
            digest, replicates = row.scores_digest, row.config.get("bootstrap", 0)
            if not digest or not replicates or kept_at(file, digest).is_file():
                continue
            if digest in at_hand:
                write_draws(kept_at(file, digest), draws_of(read_scores(at_hand[digest], digest), replicates))
            made, missing = made + (digest in at_hand), missing + (digest not in at_hand)
    return made, missing


def compare(names: list[str], files: list[Path], scores: Path, as_latex: bool) -> str:
    """The first of the entries against each of the others, in every ranking that holds them all."""
    from .board.compare import costs, effects, latex_table, pick, text
    from .zoo import model_class

    if len(set(names)) < 2:
        raise InputError(f"compare {' '.join(names)}: name two different entries or more")
    bank = bank_of(files, scores)
    parts = []
    for ranking, entries in pick(rankings(files, "", bank), names):
        cards = {card.bibtex(): None for card in (model_class(e.rows[0].model).card for e in entries)}
        show = latex_table if as_latex else text
        parts.append(show(ranking, effects(ranking, entries, bank), costs(entries), list(cards)))
    return "\n".join(parts)


def skill_of(found: list[Ranking]) -> dict[tuple[str, str], list[Standing]]:
    """What models are worth over the data sets of the rankings, by family and origin of the settings."""
    from .board.skill import standings
    from .zoo import model_class

    models = {entry.rows[0].model for ranking in found for entry in ranking.entries}
    return standings(found, {model: model_class(model).card.family for model in models})


def show_skill(files: list[Path], metric: str, scores: Path) -> None:
    """Print what models are worth over all boards of the files; InputError where they are too few."""
    found = skill_of(rankings(files, metric, bank_of(files, scores)))
    if not found:
        raise InputError(f"overall skill takes {LEAST} data sets with two models or more of one family, "
                         "settled in one way, with epochs picked on valid; these files have fewer")
    for (family, origin), table in found.items():
        print(f"{family}, settings {origin}: skill over data sets (score = mu - 3 sigma)")
        for place, one in enumerate(table, 1):
            print(f"  {place:>3}  {one.label:<24} score {one.skill.score:6.2f}  mu {one.skill.mu:6.2f}  "
                  f"sigma {one.skill.sigma:5.2f}  {one.boards} data sets")
