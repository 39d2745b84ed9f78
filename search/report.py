"""``RUN/report.html``: one self-contained page about a search."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from autopose.diagram import network_svg
from autopose.errors import DataError, GenotypeError
from autopose.files import write_atomic
from autopose.genotype import Genotype
from autopose.search.charts import line_chart, op_legend, probability_chart
from autopose.training.log import read_log

_STYLE = """
body { font: 15px/1.5 Helvetica, Arial, sans-serif; color: #222; }
body { max-width: 1180px; margin: 32px auto; padding: 0 20px; }
h1 { font-size: 24px; } h2 { font-size: 18px; margin-top: 36px; border-bottom: 1px solid #ddd; padding-bottom: 4px; }
table { border-collapse: collapse; } td, th { padding: 3px 14px 3px 0; text-align: left; vertical-align: top; }
.charts { display: flex; flex-wrap: wrap; gap: 18px; } .wide { overflow-x: auto; }
.alarm { background: #fff3e0; border-left: 4px solid #e65100; padding: 8px 12px; }
pre { background: #f6f6f6; padding: 12px; overflow-x: auto; font-size: 12px; } svg { max-width: 100%; height: auto; }
.wide svg { max-width: none; } table { overflow-wrap: anywhere; }
"""


def write_report(
    folder: Path, choices: Mapping[str, Sequence[str]], input_size_wh: tuple[int, int], *, joints: int = 17
) -> Path:
    """Write the report of a run from its log and, if it has finished, its genotype.

    Args:
        folder: run folder.
        choices: names of the columns of each architecture table.
        input_size_wh: crop size, for the cost.
        joints: that the search learns, for the cost.

    Raises:
        DataError: the run has no epoch yet.
    """
    log = read_log(folder)
    if not log:
        raise DataError(f"{folder}: no epoch is finished, so there is nothing to report.")
    path = folder / "genotype.json"
    genotype = Genotype.load(path) if path.exists() else None
    sections = [f"<h1>Search {escape(folder.name)}</h1>", _summary(log, genotype, input_size_wh, joints), _alarms(log)]
    sections += ["<h2>Convergence</h2>", f'<div class="charts">{"".join(_curves(log))}</div>']
    if genotype is not None:
        sections += _network(genotype)
    sections += _cells(log, choices)
    config = folder / "config.toml"
    if config.exists():
        sections += ["<h2>Configuration</h2>", f"<pre>{escape(config.read_text(encoding='utf-8'))}</pre>"]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Search {escape(folder.name)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )
    out = folder / "report.html"
    write_atomic(out, page)
    return out


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows) + "</table>"


def _summary(log: list[dict[str, Any]], genotype: Genotype | None, input_size_wh: tuple[int, int], joints: int) -> str:
    last = log[-1]
    rows = [
        ("epochs", str(last["epoch"])),
        ("hours", f"{last['seconds'] / 3600:.2f}"),
        ("AP of the supernet", f"{last['AP']:.3f} on the tune split (most likely cells and branches)"),
    ]
    if genotype is not None:
        from autopose.models.cost import profile_genotype

        cost = profile_genotype(genotype, joints, input_size_wh)
        rows += [
            ("genotype", f"{genotype.name}, fingerprint {genotype.fingerprint()}"),
            ("parameters", f"{cost.params / 1e6:.2f} million"),
            ("MACs", f"{cost.macs / 1e9:.3f} G ({cost.macs_gi:.2f} Gi) at {input_size_wh[0]}x{input_size_wh[1]}"),
        ]
        score = genotype.provenance.get("shared_weight_score")
        if score is not None:
            rows.append(("score of the derived network", f"{score:.3f} with shared weights, before training"))
        if "latency_ms" in genotype.provenance:
            rows.append(("predicted latency", f"{genotype.provenance['latency_ms']:.2f} ms"))
    return _rows(rows)


def _alarms(log: list[dict[str, Any]]) -> str:
    found = [(entry["epoch"], text) for entry in log for text in entry.get("alarms", [])]
    if not found:
        return "<p>No alarm: no sign of collapse.</p>"
    latest: dict[str, tuple[int, str]] = {}
    for epoch, text in found:
        kind = re.sub(r"[\d.]+", "", text.split(":")[0].split("(")[0])  # whatever its figures
        latest.pop(kind, None)
        latest[kind] = epoch, text
    lines = "".join(f"<p>Epoch {epoch}: {escape(text)}</p>" for epoch, text in latest.values())
    return f'<div class="alarm">{lines}</div>'


def _curves(log: list[dict[str, Any]]) -> list[str]:
    def series(key: str) -> list[tuple[float, float]]:
        return [(entry["epoch"], entry[key]) for entry in log if key in entry]

    return [
        line_chart("Entropy of the cells (nats per edge)", {"cells": series("arch_entropy")}),
        line_chart("Entropy of the controller (nats)", {"controller": series("controller_entropy")}),
        line_chart("Validation AP, mean OKS and reward", {name: series(name) for name in ("AP", "OKS", "reward")}),
        line_chart("Loss", {"weights": series("weight_loss"), "architecture": series("arch_loss")}),
        line_chart("Most likely operations", {"skip": series("skip_share"), "pooling": series("pool_share")}),
    ]


def _network(genotype: Genotype) -> list[str]:
    try:
        drawing = network_svg(genotype)
    except GenotypeError:
        return []
    sections = ["<h2>Network</h2>", f'<div class="wide">{drawing}</div>']
    candidates = genotype.provenance.get("candidates")
    if candidates:
        body = "".join(f"<tr><td>{escape(str(c['macro']))}</td><td>{c['score']:.3f}</td></tr>" for c in candidates)
        ranked = genotype.provenance.get("ranked", len(candidates))
        sections += [
            f"<h2>Candidates</h2><p>The best {len(candidates)} of {ranked}, scored with shared weights.</p>",
            f"<table><tr><th>branches per stage, finest first</th><th>score</th></tr>{body}</table>",
        ]
    return sections


def _cells(log: list[dict[str, Any]], choices: Mapping[str, Sequence[str]]) -> list[str]:
    sections: list[str] = []
    legends: set[tuple[str, ...]] = set()
    for name, names in choices.items():
        history = [entry["probabilities"][name] for entry in log if name in entry.get("probabilities", {})]
        if not history or not history[0]:
            continue
        if tuple(names) not in legends:
            legends.add(tuple(names))
            sections.append(op_legend(names))
        sections.append(probability_chart(name, history, names))
    if not sections:  # a search of branches alone
        return []
    heading = "<h2>Cells over time</h2><p>Per edge, from left to right the epochs: the share of each operation.</p>"
    return [heading, *sections]
