"""What a prepared data set holds and what its tables will take, as a few lines of text."""

from __future__ import annotations

from .store import Prepared


def table_mib(prepared: Prepared, dim: int = 16) -> float:
    """MiB of the embedding rows of all vocabularies at one width, float32, without optimiser."""
    return sum(prepared.table_sizes.values()) * dim * 4 / 2**20


def describe(prepared: Prepared, dim: int = 16, largest: int = 10) -> str:
    """Rows and positives of the splits, largest vocabularies, estimate of training memory at this width."""
    schema = prepared.schema
    lines = [f"{schema.dataset}: {len(schema.columns)} columns, digest {prepared.data_digest[:12]}"]
    for name in prepared.names:
        split = prepared.split(name)
        rates = [f"{label} {100 * float(split.labels[:, place].mean(dtype='float64')):.2f} %"
                 for place, label in enumerate(schema.labels)]
        positive = f"  {', '.join(rates)} positive" if rates else ""
        lines.append(f"  {name:<6} {len(split):>12,} rows {split.mib:>10,.1f} MiB{positive}")
    for name, gone in prepared.record.get("left_out", {}).items():
        words = (f"{gone['repeats']:,} repeat a pair of user and item" * (gone["repeats"] > 0),
                 f"{gone['few']:,} are of users or items with too few" * (gone["few"] > 0))
        lines.append(f"  left out of {name}: {'; '.join(filter(None, words))}")
    sizes = sorted(prepared.table_sizes.items(), key=lambda item: (-item[1], item[0]))
    lines += [f"  {name:<20} {size:>12,} vocabulary rows" for name, size in sizes[:largest]]
    if len(sizes) > largest:
        rest = sum(size for _, size in sizes[largest:])
        lines.append(f"  {len(sizes) - largest} smaller columns {rest:>16,} vocabulary rows")
    for table in prepared.record.get("tables", []):
        what = "ids" if schema.interactions else "rows"
        lines.append(f"  {table['file']}: {table['keys']:,} keys; {table['absent']:,} {what} have another "
                     f"{table['key']} or none, and miss its columns")
    for name, rows in prepared.vectors().items():
        entry = prepared.record["vectors"][name]
        lines.append(f"  {name}: {entry['keys']:,} values start from vectors of width {rows.shape[1]}, "
                     f"{prepared.table_sizes[name] - 2 - entry['keys']:,} without one from zeros; "
                     f"{entry.get('left_out', 0):,} vectors of unknown values are left out")
    mib = table_mib(prepared, dim)
    lines.append(f"  {schema.table_size:,} embedding rows to learn: {mib:,.1f} MiB at width {dim}, "
                 f"{4 * mib:,.1f} with gradient and Adam moments, {3 * mib:,.1f} in rows mode")
    return "\n".join(lines)
