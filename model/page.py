"""A model's card as one page of HTML that needs nothing else: no script, no address, no clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from model.card import ModelCard
from model.checkpoint import TrainedModel
from model.plots import label_plots

_MOST_PLOTS = 20  # labels; of more, those with the lowest average precision

_STYLE = Markup("""
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; }
.table { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem .9rem .25rem 0;
  border-bottom: 1px solid #e4e7eb; vertical-align: top; font-variant-numeric: tabular-nums; }
td.number, th.number { white-space: nowrap; }
svg { width: 100%; height: auto; } code { font-size: .9em; }
""")


def card_page(model: TrainedModel, targets_NL: NDArray[np.float32], *, title: str) -> str:
    """Return the page; `targets_NL` are the answers to `model.sha256s`, nan unreviewed.

    The same model gives the same text.
    """
    card = model.card
    parts = [
        Markup("<h1>{}: model <code>{}</code></h1>").format(title, card.version),
        Markup(
            "<p>Trained on {} pictures ({} without kin) of snapshot <code>{}</code>, seen by encoder "
            "<code>{}</code>. Every figure is of pictures that the model was not fitted on, with its "
            "95&nbsp;% interval.</p>"
        ).format(card.examples, card.groups, card.snapshot_id, card.encoder_id),
        Markup("<h2>How good it is</h2>"),
        _measures(card),
        Markup("<h2>What it is weak in</h2>"),
        _list(card.report.weaknesses if card.report else card.warnings),
        *_report(card),
        Markup("<h2>Label by label</h2>"),
        *_plots(model, targets_NL),
        Markup("<h2>How it was made</h2>"),
        _table(
            ("what", "value"),
            [
                ("judged", card.fold_scheme),
                ("answers on which people differ", _differing(card)),
                ("seed", card.seed),
                ("settings", ", ".join(f"{k} {v}" for k, v in card.settings.items())),
                ("versions", ", ".join(f"{k} {v}" for k, v in card.versions.items())),
                ("head", card.head_sha256),
            ],
        ),
    ]
    return str(
        Markup(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<title>{}</title><style>{}</style></head><body>{}</body></html>\n"
        ).format(f"{title}: model {card.version}", _STYLE, Markup("\n").join(parts))
    )


def _differing(card: ModelCard) -> str:
    """Return how many there are per label; of two people's, the later answer was trained on."""
    found = [f"{each.label} {each.disagreements}" for each in card.counts if each.disagreements]
    return ", ".join(found) + " (the later one holds)" if found else "none"


def _measures(card: ModelCard) -> Markup:
    answers = ("label", "yes", "no", "threshold", "precision", "recall", "F1")
    ranks = ("average precision", "ROC AUC", "calibration error")
    at_half = {each.label: each.f1 for each in card.evaluation_at_half.labels}
    rows: list[Sequence[object]] = [
        (
            each.label,
            each.positives,
            each.negatives,
            f"{each.threshold:.2f}",
            each.precision,
            each.recall,
            each.f1,
            each.average_precision,
            each.roc_auc,
            each.calibration_error,
            at_half[each.label],
        )
        for each in card.evaluation.labels
    ]
    overall = card.evaluation
    means = (overall.macro_precision, overall.macro_recall, overall.macro_f1)
    ranked = (overall.mean_average_precision, overall.mean_roc_auc)
    rows.append(("mean", "", "", "", *means, *ranked, "", card.evaluation_at_half.macro_f1))
    return _table((*answers, *ranks, "F1 at 0.50"), rows)


def _report(card: ModelCard) -> list[Markup]:
    if card.report is None:
        return []
    report = card.report
    return [
        Markup("<h2>By kind of picture</h2>"),
        _table(
            ("pictures that are", "number", "macro F1", "recall"),
            [
                (
                    each.name,
                    each.pictures,
                    each.macro_f1,
                    "; ".join(f"{label} {found}" for label, found in each.recall.items()),
                )
                for each in report.slices
            ],
        ),
        Markup("<h2>What more pictures would bring</h2>"),
        _list(
            [
                f"about {each.more} more of {each.label} would bring recall from {each.now:.2f} "
                f"to about {each.then}"
                for each in report.forecasts
            ]
        ),
        Markup("<h2>Where the pictures came from</h2>"),
        _table(("site", "pictures"), list(report.sources.items())),
        _table(("licence", "pictures"), list(report.licences.items())),
    ]


def _plots(model: TrainedModel, targets_NL: NDArray[np.float32]) -> list[Markup]:
    learning = {
        each.label: each for each in (model.card.report.learning if model.card.report else ())
    }
    ranked = sorted(
        enumerate(model.card.evaluation.labels), key=lambda each: each[1].average_precision.value
    )
    shown = {column for column, _ in ranked[:_MOST_PLOTS]}
    parts = []
    for column, label in enumerate(model.head.labels):
        reviewed_N = ~np.isnan(targets_NL[:, column])
        positive_N = targets_NL[reviewed_N, column] == 1
        if column not in shown or not positive_N.any() or positive_N.all():
            continue
        svg = label_plots(
            model.out_of_fold_NL[reviewed_N, column],
            positive_N,
            float(model.head.thresholds_L[column]),
            learning.get(label),
        )
        drawn = Markup(svg)  # noqa: S704 - our own drawing, without anybody's text in it
        parts.append(
            Markup('<h3>{0}</h3><div role="img" aria-label="curves of {0}">{1}</div>').format(
                label, drawn
            )
        )
    if len(parts) < len(model.head.labels):
        parts.append(
            Markup("<p>Curves of {} of {} labels, those that rank worst.</p>").format(
                len(parts), len(model.head.labels)
            )
        )
    return parts


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    head = Markup("").join(Markup("<th>{}</th>").format(column) for column in columns)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup("<td>{}</td>").format(str(value)) for value in row)
        )
        for row in rows
    )
    return Markup(
        '<div class="table"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, body)


def _list(lines: Sequence[str]) -> Markup:
    if not lines:
        return Markup("<p>Nothing stands out.</p>")
    items = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
    return Markup("<ul>{}</ul>").format(items)
