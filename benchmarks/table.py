"""Rows of figures as text and as markdown."""

from __future__ import annotations

COLUMNS = ("", "figure", "per CPU second", "seconds", "ratio", "target")
UNITS = (("mb_per_s", "MB/s"), ("points_per_s", "points/s"), ("megabytes", "MB"))


def number(x: float) -> str:
    """Three significant digits or all before the point; millions as such."""
    if abs(x) < 10:
        return f"{x:.3g}"
    if abs(x) < 1e6:
        return f"{x:.1f}" if abs(x) < 100 else f"{x:,.0f}"
    return f"{x / 1e6:.3g} M"


def cells(name: str, row: dict) -> tuple[str, ...]:
    """One row as texts, in the order of COLUMNS."""
    figure = f"{number(row['value'])} {row.get('unit', '')}".strip() if "value" in row else ""
    if not figure:
        figure = next((f"{number(row[key])} {unit}" for key, unit in UNITS if row.get(key)), "")
    ratio = ""
    if row.get("ratio") is not None and row.get("of"):
        share = row["of"].startswith("of ")
        ratio = f"{100 * row['ratio']:.0f} % {row['of']}" if share else f"{number(row['ratio'])} {row['of']}"
    target = row.get("target", "")
    if target and row.get("met") is not None:
        target += " (met)" if row["met"] else " (missed)"
    if row.get("old"):
        name += f" (old: {row['old']})"
    share, seconds = (number(row[key]) if row.get(key) else "" for key in ("per_cpu_s", "seconds"))
    return name, figure, share, seconds, ratio, target


def lines(rows: dict[str, dict]) -> list[str]:
    """Aligned columns for a terminal."""
    body = [COLUMNS, *(cells(name, row) for name, row in rows.items())]
    width = [max(len(line[i]) for line in body) for i in range(len(COLUMNS))]
    return ["  ".join([line[0].ljust(width[0]), *(t.rjust(w) for t, w in zip(line[1:-1], width[1:-1], strict=True))])
            + "  " + line[-1] for line in body]  # fmt: skip


def markdown(rows: dict[str, dict]) -> list[str]:
    """The same as a markdown table; what stands before ': ' in a name becomes a line of its own."""
    out, group = ["| " + " | ".join(COLUMNS) + " |", "|---|---:|---:|---:|---:|---|"], ""
    for name, row in rows.items():
        head, _, tail = name.partition(": ") if ": " in name else ("", "", name)
        if head != group:
            group = head
            if head:
                out.append(f"| **{head}** |" + " |" * (len(COLUMNS) - 1))
        out.append("| " + " | ".join(cells(tail, row)) + " |")
    return out
