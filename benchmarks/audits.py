"""Audit every data set that is at hand: `python benchmarks/audits.py --data DIR --out DIR`.

Data sets with a data recipe are prepared by it, the others by the schema files in benchmarks/schemas. Writes
one audit a data set and label into OUT/audits (as `recsys-zoo board run` names them) and OUT/audits.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from recsys_zoo import audit, catalog
from recsys_zoo.board.rank import worded_metric
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.files import write_whole

HEAD = """# Audits

Made by `python benchmarks/audits.py --data DIR --out benchmarks/results`; the numbers behind each sentence
are in audits/, by data digest. Samples (criteo_sample, avazu_sample) are the first rows of their logs: what
is said of them does not hold for the whole.
"""
SCHEMAS = Path(__file__).parent / "schemas"
RECIPES = {  # name -> folder
    "frappe_x1": "frappe_x1", "movielens_1m": "movielens_1m", "adult": "adult",
    "gowalla_m1": "gowalla_m1", "yelp18_m1": "yelp18_m1", "movielens1m_m1": "movielens1m_m1",
    "amazonelectronics_m1": "amazonelectronics_m1", "citeulike_t": "citeulike-t",
    "citeulike_a": "citeulike-a", "coat": "coat", "lastfm": "lastfm",
    "movielens_100k_last": "ml-100k", "movielens_100k_time": "ml-100k", "movielens_1m_last": "movielens_1m",
    "movielens_1m_users": "movielens_1m", "citeulike_t_users": "citeulike-t"}
FILES = {"criteo_sample": ("criteo_sample", "first_10000_rows.parquet"),
         "movielens_100k": ("movielens_100k", "interactions.parquet"),
         "ferr_resume": ("ferr-resume", "label_interaction.parquet")}
SEQUENCES = ("beauty", "sports", "toys", "instruments", "ml-1m")  # rows in the order of each user
SPLITS = {"avazu_sample": ("avazu_sample", {"train": "train", "valid": "dev", "test": "test"})}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    options = parser.parse_args()
    lines = [HEAD]
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in prepared(options.data, Path(scratch)):
            for label in data.schema.labels or [""]:
                only = len(data.schema.labels) < 2
                record = audit.audit(data, label)
                stored = audit.file_beside(options.out / "rows", data.data_digest, "" if only else label)
                audit.save(record, stored)
                lines += section(name if only else f"{name}, label {label}", record)
    write_whole(options.out / "audits.md", "\n".join(lines))


def prepared(data: Path, scratch: Path) -> Iterator[tuple[str, Prepared]]:
    """The data sets that are at hand, prepared below `scratch`."""
    for name, folder in RECIPES.items():
        if (data / folder).is_dir():
            out = scratch / "recipes" / name
            yield name, Prepared.open(catalog.prepared_by_recipe(name, data / folder, out))
    for name, (folder, file) in FILES.items():
        if (data / folder).is_dir():
            yield name, made(name, [data / folder / file], data / folder, scratch)
    for name in SEQUENCES:
        if (data / name).is_dir():
            spec = DataSpec.load(SCHEMAS / "sequences.toml").model_copy(update={"dataset": name})
            yield f"{name}, histories", prepare([data / name / "sequences.parquet"], spec, scratch / name)
    for name, (folder, splits) in SPLITS.items():
        if (data / folder).is_dir():
            given = {split: [data / folder / f"{file}.parquet"] for split, file in splits.items()}
            yield name, made(name, [], data / folder, scratch, given)
    if (data / "coat").is_dir():
        yield "coat, labelled", made("coat", [coat(data / "coat", scratch)], scratch, scratch)


def made(name: str, files: list[Path], tables: Path, scratch: Path,
         splits: dict[str, list[Path]] | None = None) -> Prepared:
    """Prepare by the schema file of that name."""
    spec = DataSpec.load(SCHEMAS / f"{name}.toml")
    return prepare(files, spec, scratch / name, split_files=splits, tables_from=tables)


def coat(folder: Path, scratch: Path) -> Path:
    """One file of the self-selected ratings, every tenth as valid, and the randomised ones as test."""
    import polars as pl
    train = pl.read_parquet(folder / "train.parquet").with_row_index("row").with_columns(
        split=pl.when(pl.col("row") % 10 == 9).then(pl.lit("valid")).otherwise(pl.lit("train"))).drop("row")
    test = pl.read_parquet(folder / "test.parquet").with_columns(split=pl.lit("test"))
    pl.concat([train, test]).write_parquet(scratch / "coat.parquet")
    items = pl.read_parquet(folder / "item_features.parquet").rename({"gender": "item_gender"})
    items.write_parquet(scratch / "item_features.parquet")
    (scratch / "user_features.parquet").write_bytes((folder / "user_features.parquet").read_bytes())
    return scratch / "coat.parquet"


def section(name: str, record: dict) -> list[str]:
    """The summary of one audit."""
    if record.get("kind") == "ranking":
        return ranking_section(name, record)
    rows = ", ".join(f"{split} {facts['rows']:,} ({facts['positive_rate']:.1%} positive)"
                     for split, facts in record["splits"].items())
    floors = ", ".join(f"{floor.replace('_', ' ')} {facts['test.auc']:.4f}"
                       for floor, facts in record["floors"].items() if facts.get("test.auc") is not None)
    facts = f"Data {record['data_digest'][:16]}. Rows: {rows}. Test AUC of floors: {floors}."
    warnings = [f"- {warning}" for warning in record["warnings"] or ["nothing to warn of"]]
    return [f"## {name}", "", facts, "", *warnings, ""]


def ranking_section(name: str, record: dict) -> list[str]:
    """The summary of the audit of a ranking."""
    rows = ", ".join(f"{split} {facts['rows']:,}" for split, facts in record["splits"].items())
    known = {metric for metrics in record["floors"].values() for metric in metrics}
    main = next((metric for metric in ("test.recall@20", "test.dcg@5") if metric in known), "")
    floors = ", ".join(f"{floor} {metrics[main]:.4f}" for floor, metrics in record["floors"].items())
    facts = [f"Data {record['data_digest'][:16]}.",
             f"{record['users']['all']:,} users, {record['items']['all']:,} items. Rows: {rows}.",
             f"T{worded_metric(main)[1:]} of floors: {floors}." if floors else "No floors.",
             f"The most popular tenth of the items has {record['popularity']['popular_share']:.1%} of the "
             "train rows."]
    warnings = [f"- {warning}" for warning in record["warnings"] or ["nothing to warn of"]]
    return [f"## {name}", "", " ".join(facts), "", *warnings, ""]


if __name__ == "__main__":
    main()
