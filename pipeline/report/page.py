"""The page of a run: views of the inputs, laid out by templates."""

from __future__ import annotations

from markupsafe import Markup

from pipeline.report import document, headline, inline, provenance, results
from pipeline.report.document import Figure, Page
from pipeline.report.inputs import Inputs
from pipeline.verdict import worst_first

TITLES = {
    "verdicts": "What to know first",
    "training": "Training",
    "classes": "Results per class",
    "thresholds": "ROC and precision–recall",
    "calibration": "Calibration",
    "gallery": "Right and wrong",
    "outputs": "Sample outputs",
    "network": "The network",
    "embedding": "How the classes come apart",
    "data": "The data",
    "config": "Configuration",
    "lineage": "Lineage",
}


def render(inputs: Inputs) -> str:
    """The report as one HTML file that refers to nothing outside itself, save a link to the run in MLflow.

    The same inputs give the same bytes.
    """
    metrics, run, dataset = inputs.metrics, inputs.run, inputs.dataset
    params = run["params"] | {"evaluate": metrics["settings"]}  # that may have changed since the training
    settings = provenance.settings(params)
    floor = results.recall_floor(metrics["per_class"])
    view = {
        "dataset": dataset,
        "run": run,
        "metrics": metrics,
        "history": inputs.history,
        "checks": inputs.checks,
        "files": inputs.files,
        "training_summary": headline.training(run),
        "per_class": results.per_class(metrics["per_class"], floor),
        "recall_floor": floor,
        "confusions": results.confusions(metrics["confusion"], dataset.classes),
        "calibration_summary": results.calibration(metrics["calibration"]),
        "galleries": results.galleries(metrics["gallery"], inputs.gallery, dataset.classes),
        "outputs": results.outputs(inputs.gallery["samples"], metrics["gallery"]["samples"], dataset.classes),
        "layers": metrics["layers"],
        "kinds": headline.KINDS,
        "network_summary": headline.network(run),
        "class_counts": provenance.class_counts(dataset, inputs.checks["examples"]),
        "findings": provenance.findings(inputs.checks),
        "source": inputs.source if len(inputs.source["files"]) <= provenance.MOST_FILES else None,
        "source_summary": provenance.source_summary(inputs.source),
        "data_summary": provenance.data_summary(dataset, metrics["test_openings"]),
        "config": settings,
        "changed": [row for rows in settings.values() for row in rows if row.changed],
        "params_uri": inline.data_uri(provenance.yaml_text(params).encode(), "application/yaml"),
        "reproduce": {
            "title": "Reproduce",
            "commands": provenance.commands(run),
            "note": provenance.reproduce_note(run),
        },
    }
    page = Page(
        packages=(),
        kind="sections",
        head=headline.head(inputs),
        sections=TITLES,
        verdicts=worst_first(inputs.verdicts),
        tables=(provenance.lineage(run, dataset),),
        origin=Markup(" from the files of run <code>{}</code>").format(run["run_id"] or "not tracked"),
        view=view,
    )
    names = [name for name in inputs.figures if name != "learning_rate" or _lr_moves(inputs)]
    return document.render(page, [_figure(name, inputs) for name in names])


def _figure(name: str, inputs: Inputs) -> Figure:
    about = inputs.metrics["figures"][name]
    return Figure.of(name, about["title"], about["caption"], *inputs.figures[name])


def _lr_moves(inputs: Inputs) -> bool:
    """A constant learning rate stands in the text; a picture of a level line says no more."""
    return len({row["lr"] for row in inputs.history}) > 1
