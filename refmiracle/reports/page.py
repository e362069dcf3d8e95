"""From a run to the bytes of its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refmiracle import drawing
from refmiracle.codes.table import find_code
from refmiracle.extras import import_extra
from refmiracle.fileformat import anatomy
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.payload import payload_of
from refmiracle.fileformat.update import CompressedUpdate
from refmiracle.posterior.parameterizations import find_parameterization
from refmiracle.reports import content, figures, pictures
from refmiracle.reports.example import Example, Variable, follow_block
from refmiracle.reports.opening import OpenedRun
from refmiracle.studies.comparison import FinishedRun
from refmiracle.training.data import Split

EXTRA = "report"
TEMPLATE = "template.html.j2"
FOLDER = Path(__file__).parent
# Of the block that is followed, at most so many variables are listed.
MOST_VARIABLES = 64
# And of the names of classes.
MOST_NAMES = 100
AXES = {1: ("output",), 2: ("input", "output"), 4: ("row", "column", "input", "output")}


def check_extras() -> None:
    """Refuse to start where the page could not be made.

    Raises
    ------
    InputError
        If matplotlib or Jinja2 is not installed, cannot be loaded or does not draw.
    """
    load_jinja()
    drawing.check_drawing(["svg"], EXTRA)


def load_jinja() -> Any:
    """Return Jinja2.

    Raises
    ------
    InputError
        If it is not installed or cannot be loaded.
    """
    return import_extra("jinja2", EXTRA, ("Environment", "FileSystemLoader", "StrictUndefined"))


def build_page(opened: OpenedRun, test: Split, engine: str = "numba", data: str = "") -> bytes:
    """Return the page about a run: the same bytes for the same run and images.

    Parameters
    ----------
    opened : OpenedRun
    test : Split
        The test images.
    engine : str
        Classifies them: the one that trained may be the reference engine, which is far slower.
    data : str
        The options that name the images, each behind a space; none: refmiracle carries them.
    """
    jinja2 = load_jinja()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with drawing.own_style(figures.STYLE):
        parts = {
            **_results(opened, data),
            **_bits_and_example(opened),
            **_network(opened, test, engine),
            "of_mnist": not data,
            "css": (FOLDER / "style.css").read_text(encoding="utf-8"),
            "script": (FOLDER / "script.js").read_text(encoding="utf-8"),
        }
    return (environment.get_template(TEMPLATE).render(parts) + "\n").encode()


def _results(opened: OpenedRun, data: str) -> dict[str, Any]:
    settings = opened.run.settings
    # Mean-Var trains on until its blocks are within their budgets.
    trained = opened.run.summary["steps"] - settings.encoding_steps()
    command, other = content.train_command(settings, opened.name, data)
    return {
        "name": opened.name,
        "settings": settings,
        "summary": opened.run.summary,
        "method": find_parameterization(settings.parameterization),
        "size": len(opened.data),
        "network": opened.model.layout.network,
        "layout": opened.model.layout,
        "trained": trained,
        "settings_table": content.settings_table(settings, trained),
        "command": command,
        "base_names": content.base_names(settings),
        "base_bytes": sum(map(len, settings.base)),
        "other_settings": other,
        "curves": figures.draw_curves(opened.metrics, trained, opened.run.summary["steps"]),
        "points": len(opened.metrics),
    }


def _bits_and_example(opened: OpenedRun) -> dict[str, Any]:
    run, model = opened.run, opened.model
    payload = payload_of(find_code(model.code))
    bits, tensors = content.block_bits(run), content.tensor_bits(run)
    fields = anatomy.find_fields(model)
    example = follow_block(opened, fields, bits) if payload.own_bits else None
    shown = anatomy.describe_bytes(model, fields)[: anatomy.MOST_BYTES]
    width = anatomy.BYTES_IN_A_ROW
    return {
        "block_bits": bits,
        "block_bits_figure": figures.draw_block_bits(bits, model.bits_per_block, payload.dashed),
        "tensors": tensors,
        "tensor_bits_figure": figures.draw_tensor_bits(tensors),
        "distributions": figures.draw_distributions(run),
        "fields": fields,
        "kinds": anatomy.kinds(model),
        "bytes_of": {
            kind: sum(len(f.data) for f in fields if f.kind == kind)
            for kind in anatomy.kinds(model)
        },
        "payload": payload,
        "rows": [(i, shown[i : i + width]) for i in range(0, len(shown), width)],
        "width": width,
        "hidden": max(0, len(opened.data) - anatomy.MOST_BYTES),
        "patterns": sorted({byte.pattern for byte in shown} - {""}),
        **(_example(opened, example) if example else {"example": None}),
    }


def _example(opened: OpenedRun, example: Example) -> dict[str, Any]:
    _, kernels = content.first_layer(opened.run)
    limit = float(np.abs(kernels).max(initial=0.0)) or 1.0
    first = opened.model.layout.network.tensors()[0]
    marked: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for variable in example.variables if len(first.shape) == 4 else ():
        for position in variable.positions if variable.tensor == first.name else ():
            marked.setdefault((position[3], position[2]), []).append(position[:2])
    return {
        "example": example,
        "example_rows": [(v, describe_places(v)) for v in example.variables[:MOST_VARIABLES]],
        "example_tensors": [
            (t.name, count)
            for t in opened.model.layout.network.tensors()
            if (count := sum(v.tensor == t.name for v in example.variables))
        ],
        "example_kernels": [
            (name, pixels, pictures.kernel_svg(kernels[place], limit, pixels, label))
            for place, pixels in sorted(marked.items())
            for name in [f"kernel {place[0]}" + f", input {place[1]}" * (kernels.shape[1] > 1)]
            for label in [f"{name}, with a frame around the weights of this block"]
        ],
        "framed": sum(map(len, marked.values())),
        "better": int(np.count_nonzero(example.others > example.log_weight)),
        "candidates_figure": figures.draw_log_weights(example),
    }


def _moves(
    run: FinishedRun, file: CompressedModel | CompressedUpdate, test: Split, error: float
) -> dict[str, Any]:
    """Return what the page says of an update beside its base."""
    if not isinstance(file, CompressedUpdate):
        return {"base_error": None, "moves": [], "moved_figures": {}}
    moves = content.find_moves(run, file, test, error)
    return {
        "base_error": content.base_error(run, test),
        "moves": moves,
        "moved_figures": figures.draw_moves(moves),
    }


def describe_places(variable: Variable) -> str:
    """Return in words where the weights of a variable stand; counted from 0."""
    count = len(variable.positions[0])
    axes = AXES.get(count, tuple(f"axis {i}" for i in range(count)))
    pairs = zip(axes, variable.positions[0], strict=True)
    text = ", ".join(f"{axis} {position}" for axis, position in pairs)
    more = len(variable.positions) - 1
    return f"{text}, and {more} more" if more else text


def describe_classes(names: Sequence[str]) -> str:
    """Return in words of which classes a mistake shows the probabilities."""
    count = len(names)
    numbered = list(names) == [str(i) for i in range(count)]
    which = f"the classes 0 to {count - 1}" if numbered else "the classes"
    if count > content.MOST_CLASSES:
        which = f"the {content.MOST_CLASSES} likeliest classes of {count}, the true one among them"
    if numbered or pictures.has_symbols(names):
        return which
    told = ", ".join(f"{i} {name}" for i, name in enumerate(names[:MOST_NAMES]))
    return f"{which} ({told}{', ...' if count > MOST_NAMES else ''})"


def _network(opened: OpenedRun, test: Split, engine: str) -> dict[str, Any]:
    run = replace(opened.run, settings=replace(opened.run.settings, engine=engine))
    predictions = content.predict(run, test)
    count, mistakes = content.find_mistakes(predictions, test)
    curve = content.pruning_curve(run, test)
    kernels = [k[: content.MOST_UNITS] for k in content.first_layer(run)]
    units = [pictures.as_kernels(k) for k in kernels]
    limit = float(np.abs(units).max(initial=0.0)) or 1.0
    names = [test.name(i) for i in range(len(predictions.decoded))]
    _, height, width = test.input_shape()
    return {
        **_moves(run, opened.model, test, predictions.error),
        "class_names": names,
        "shown_classes": describe_classes(names),
        "image_size": (width, height),
        "predictions": predictions,
        "samples": content.SAMPLES,
        "images": len(test.labels),
        "curve": curve,
        "pruning_figure": figures.draw_pruning(curve),
        "kernels": [
            [pictures.png_uri(pictures.weights_picture(k, limit)) for k in pair]
            for pair in zip(*units, strict=True)
        ],
        "unit_size": units[0].shape[1:3],
        "in_colour": units[0].ndim == 4,
        "kernel_channels": kernels[0].shape[1],
        "limit": limit,
        "colours": (pictures.NEGATIVE, pictures.ZERO, pictures.POSITIVE),
        "mistakes": [
            (
                m,
                pictures.png_uri(pictures.as_picture(m.pixels)),
                pictures.bars_svg(m.decoded, m.label, m.predicted, "the file", drawn),
                pictures.bars_svg(m.posterior, m.label, m.predicted, "the posterior", drawn),
            )
            for m in mistakes
            for drawn in [pictures.Classes(content.likely_classes(m), names)]
        ],
        "mistake_count": count,
    }
