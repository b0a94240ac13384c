"""The table and the figures of one session."""

import csv
from statistics import median

from loads import LOADS

UNIT = "nginx"
# More than this of a processor taken by others: the run says less.
LOUD = 0.15
# Where less is better.
LESS = ("p50_us", "kib_each")


def write(out, results, about, started):
    """Writes `table.md` and `figures.csv` into the folder, and returns the table."""
    figures = []
    lines = [f"Measured {started}. Ratios are to {UNIT} in the same round.", ""]
    lines += ["| peer | version | does |", "|---|---|---|"]
    lines += [f"| {name} | {version} | {does} |" for name, (version, does) in about.items()]
    for name, load in LOADS.items():
        of_load = [result for result in results if result["load"] == name]
        if of_load:
            lines += ["", f"**{load.title}** (`{name}`)", "", *table(name, load, of_load, figures)]
    text = "\n".join(lines) + "\n"
    (out / "table.md").write_text(text)
    with open(out / "figures.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["load", "peer", "figure", "median", "min", "max", f"ratio_to_{UNIT}", "rounds", "errors", "counted"])
        writer.writerows(figures)
    return text


def table(name, load, results, figures):
    cost = "CPU s/GiB" if load.cost == "cpu_s_per_gib" else "CPU s/1,000"
    rows = [f"| peer | {load.unit} | min – max | × {UNIT} | {cost} | × {UNIT} | p50 ms | p99 ms | peak MiB | errors |", "|---" * 10 + "|"]
    for peer in dict.fromkeys(result["peer"] for result in results):
        own = [result for result in results if result["peer"] == peer]
        good = [result for result in own if not result.get("failed")]
        if not good:
            rows.append(f"| {peer} ✗ | {own[-1]['failed'][:120].replace('|', '/')} |" + " |" * 8)
            continue
        errors = sum(result.get("errors") or 0 for result in good)
        asked = sum(result.get("done") or 0 for result in good)
        # A peer that drops requests does less, so its figures are no figures.
        counted = errors * 1000 <= asked
        cells = [peer + ("" if counted else " ✗") + (" ~" if min(r.get("foreign", 0) for r in good) > LOUD else "")]
        for figure in (load.figure, load.cost):
            values = [r[figure] for r in good if r.get(figure) is not None]
            ratio = ratios(figure, good, results)
            cells.append(show(median(values)) if values else "–")
            if figure == load.figure:
                cells.append(f"{show(min(values))} – {show(max(values))}" if values else "–")
            cells.append(f"{ratio:.2f}" if ratio is not None and counted else "–")
            if values:
                figures.append([name, peer, figure, median(values), min(values), max(values), ratio, len(values), errors, int(counted)])
        for figure, scale in (("p50_us", 1e-3), ("p99_us", 1e-3), ("rss_peak_kib", 1 / 1024)):
            values = [r[figure] * scale for r in good if r.get(figure) is not None]
            cells.append(show(median(values)) if values else "–")
            if values and figure != load.figure:
                figures.append([name, peer, figure, median(values) / scale, min(values) / scale, max(values) / scale,
                                ratios(figure, good, results), len(values), errors, int(counted)])  # fmt: skip
        cells.append(str(errors))
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def ratios(figure, good, results):
    """The median, over rounds, of a peer's figure by the unit's in the same round."""
    unit = {r["round"]: r.get(figure) for r in results if r["peer"] == UNIT and not r.get("failed")}
    found = [r[figure] / unit[r["round"]] for r in good if r.get(figure) is not None and unit.get(r["round"])]
    return median(found) if found else None


def show(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
