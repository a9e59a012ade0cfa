"""The report: one HTML file that needs no other, with figures, plots and films."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from gamegen_x.evaluation.answer import Answer, Film, Row
from gamegen_x.evaluation.films import film_as_data_url
from gamegen_x.evaluation.gates import Gate

STYLE = """
:root { --ink: #0f172a; --grey: #64748b; --line: #e2e8f0; --paper: #ffffff; --soft: #f8fafc; --blue: #2563eb;
        --green: #059669; --red: #dc2626; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--soft); color: var(--ink);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 19px; margin: 0 0 6px; }
.about, figcaption, .small { color: var(--grey); font-size: 13px; }
section { background: var(--paper);
          border: 1px solid var(--line); border-radius: 12px; padding: 22px 24px; margin-top: 22px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px; margin-top: 22px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 14px 18px; }
.card b { display: block; font-size: 28px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.bar { position: relative; height: 8px; border-radius: 4px; background: var(--line); margin: 8px 0 4px; }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; background: var(--blue); }
.bar u { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--ink); }
.bar u.chance { background: var(--red); }
table { border-collapse: collapse; margin: 14px 0 4px; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); }
th { color: var(--grey); font-weight: 500; font-size: 13px; } th:first-child, td:first-child { text-align: left; }
td.wide { width: 26%; }
.pass { color: var(--green); font-weight: 600; } .fail { color: var(--red); font-weight: 600; }
figure { margin: 18px 0 0; }
video { max-width: 100%; border-radius: 8px; border: 1px solid var(--line); display: block; }
svg { max-width: 100%; height: auto; margin-top: 10px; }
details { margin-top: 12px; }
pre { overflow: auto; background: var(--soft); padding: 12px; border-radius: 8px; font-size: 12px; }
"""


@dataclass(frozen=True)
class Report:
    """How a report is drawn. `keys` names the keys on the films by their place in the action vector."""

    title: str
    keys: Mapping[int, str]
    min_pane_width: int  # pixels
    fps: float
    crf: int

    def html(
        self,
        about: Sequence[str],
        headlines: Sequence[Row],
        answers: Sequence[Answer],
        gates: Sequence[Gate],
        figures: Mapping[str, Any],
    ) -> str:
        parts = [f"<h1>{escape(self.title)}</h1>", *(f'<div class="about">{escape(line)}</div>' for line in about)]
        parts.append(f'<div class="cards">{"".join(_card(row) for row in headlines)}</div>')
        if gates:
            parts.append(f"<section><h2>Gates</h2>{_gates(gates)}</section>")
        parts += [self._section(answer) for answer in answers]
        plain = escape(json.dumps(figures, indent=2))
        parts.append(f"<section><details><summary>All figures as JSON</summary><pre>{plain}</pre></details></section>")
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style><main>{''.join(parts)}</main></html>\n"
        )

    def _section(self, answer: Answer) -> str:
        body = [f"<h2>{escape(answer.title)}</h2>", f'<div class="about">{escape(answer.explanation)}</div>']
        if answer.rows:
            body.append(_table(answer.rows))
        body += answer.plots
        body += [self._film(film) for film in answer.films]
        return f"<section>{''.join(body)}</section>"

    def _film(self, film: Film) -> str:
        url = film_as_data_url(film, self.keys, self.min_pane_width, self.fps, self.crf)
        return (
            f'<figure><video src="{url}" controls loop muted autoplay playsinline></video>'
            f"<figcaption>{escape(film.caption)}</figcaption></figure>"
        )


def said(value: float | None, unit: str) -> str:
    """A figure as people read it."""
    if value is None or math.isnan(value):
        return "–"
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.2f} {unit}".strip()


def _card(row: Row) -> str:
    beside = [
        f"{name} {said(value, row.unit)}"
        for name, value in (("ceiling", row.ceiling), ("chance", row.chance))
        if value is not None
    ]
    return (
        f'<div class="card"><span class="small">{escape(row.name)}</span><b>{said(row.value, row.unit)}</b>'
        f'{_bar(row)}<span class="small">{", ".join(beside)}</span></div>'
    )


def _bar(row: Row) -> str:
    """The value on a scale from 0 to 1, with marks at ceiling and chance. Nothing for other units."""
    if row.unit == "dB" or row.value is None or math.isnan(row.value):
        return ""
    marks = [(row.ceiling, ""), (row.chance, "chance")]
    ticks = "".join(
        f'<u class="{kind}" style="left:{_percent(value)}"></u>' for value, kind in marks if value is not None
    )
    return f'<div class="bar"><i style="width:{_percent(row.value)}"></i>{ticks}</div>'


def _percent(value: float) -> str:
    return f"{100 * min(max(value, 0.0), 1.0):.1f}%"


def _table(rows: Sequence[Row]) -> str:
    lines = [
        f"<tr><td>{escape(row.name)}</td><td>{said(row.value, row.unit)}</td><td>{said(row.ceiling, row.unit)}</td>"
        f'<td>{said(row.chance, row.unit)}</td><td class="wide">{_bar(row)}</td></tr>'
        for row in rows
    ]
    return f"<table><tr><th></th><th>measured</th><th>ceiling</th><th>chance</th><th></th></tr>{''.join(lines)}</table>"


def _gates(gates: Sequence[Gate]) -> str:
    lines = [
        f"<tr><td>{escape(gate.name)}</td><td>{gate.value if gate.value is None else f'{gate.value:.3f}'}</td>"
        f'<td>{gate.wanted}</td><td class="{"pass" if gate.is_passed else "fail"}">'
        f"{'passed' if gate.is_passed else 'not learned'}</td></tr>"
        for gate in gates
    ]
    return f"<table><tr><th></th><th>measured</th><th>wanted</th><th></th></tr>{''.join(lines)}</table>"
