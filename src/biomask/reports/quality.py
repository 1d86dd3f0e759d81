"""Sections of an evaluation report beside the plain scores: surfaces, calibration, counts, groups, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomask.evaluation.instances import SCORES
from biomask.reports.blocks import Block, Cell, Fold, Gallery, Headline, Paragraph, Section, Table, show
from biomask.reports.charts import counts, reliability, threshold_curve
from biomask.reports.figures import per_image_scores
from biomask.reports.parts import chart, ends_of, folded, notes_again
from biomask.words import count

#: Scores of pixels and surfaces: key, title.
PIXELS: Mapping[str, str] = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall",
                             "specificity": "specificity", "pixel_error": "pixel error"}
SURFACES: Mapping[str, str] = {"hd95": "HD95", "assd": "ASSD", "nsd": "NSD"}

#: Scores of which less is better.
LESS = frozenset({"pixel_error", "hd95", "assd", "count_error"})


def titles(evaluation: Mapping[str, Any], where: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Scores of pixels and surfaces that an evaluation has, with their unit. where: among these scores; None = the means."""
    there = evaluation["mean"] if where is None else where
    boundary = evaluation.get("boundary") or {}
    units = {"hd95": f", {boundary.get('unit', 'px')}", "assd": f", {boundary.get('unit', 'px')}",
             "nsd": f" at {boundary['tolerance']:g} {boundary['unit']}" if boundary else ""}
    return {k: f"{name}{units.get(k, '')}" for k, name in {**PIXELS, **SURFACES}.items() if k in there}


def main_score(evaluation: Mapping[str, Any]) -> tuple[str, str]:
    """(key, name) of the score that images are sorted by."""
    return ("ap50", "AP at 0.5") if evaluation.get("kind") == "instances" else ("dice", "Dice")


def calibration_section(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    """Whether probabilities are what they say; none where there are none."""
    found = evaluation.get("calibration")
    if not found:
        return ()
    headline = Headline((("expected calibration error", found["ece"], "0 is perfect"),
                         ("cross-entropy", found["bce"], "nats a pixel; less is better"),
                         ("Brier score", found.get("brier"), "less is better")))
    filled = [b for b in found["bins"] if b["pixels"]]
    apart = max(filled, key=lambda b: abs(b["confidence"] - b["accuracy"]), default=None)
    alt = f"Share of right pixels over confidence in {len(found['bins'])} bins, and the pixels in each bin."
    if apart is not None:
        alt += f" Farthest apart: confidence {apart['confidence']:.2f}, right {apart['accuracy']:.2f}."
    said = "Dots below the dashed line: the model is surer than it is right; above it: less sure than it could be."
    figure = chart(reliability(found["bins"]), alt, f"{said} Over {found['pixels']:,} pixels.")
    table = Table(("confidence", "pixels", "mean confidence", "share of right pixels"), tuple(
        (f"{b['low']:.2f} to {b['high']:.2f}", b["pixels"], b["confidence"], b["accuracy"]) for b in found["bins"]),
        tuple(filter(None, (str(found.get("says") or ""),))))
    return (Section("Are its probabilities right?", (headline, figure, Fold("The figures behind it", (table,))), "calibration"),)


def counts_section(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    """Scores over the IoU that a match needs, and how counts agree; none where no objects were judged."""
    blocks: list[Block] = []
    rows, agreement = evaluation["per_image"], evaluation.get("agreement")
    if agreement and agreement.get("bias") is not None:
        true, predicted = ([int(r[k]) for r in rows] for k in ("true_objects", "predicted_objects"))
        low, high, sure = agreement.get("low"), agreement.get("high"), agreement.get("bias_interval") or {}
        limits = f", limits of agreement {low:+.1f} to {high:+.1f}" if low is not None and high is not None else ""
        interval = f" ({sure['low']:+.2f} to {sure['high']:+.2f}, {ends_of(sure)})" if sure.get("low") is not None else ""
        text = f"Bias {agreement['bias']:+.2f} objects an image{interval}{limits}."
        if agreement.get("slope") is not None:
            text += f" The difference changes by {agreement['slope']:+.2f} for each object more in an image."
        blocks += [Paragraph(text), chart(counts(true, predicted, agreement), f"Counts of {count(len(rows), 'image')}. {text}",
                                          f"A dot is one of {count(len(rows), 'image')}; limits are bias ± 1.96 standard "
                                          "deviations of the differences (Bland and Altman 1986).")]
    thresholds = evaluation.get("thresholds")
    if thresholds:
        alt = "; ".join(f"IoU {t['iou']:.2f}: AP {show(t['ap'])}, F1 {show(t['f1'])}" for t in thresholds)
        table = Table(("IoU that a match needs", "AP", "F1"), tuple((f"{t['iou']:.2f}", t["ap"], t["f1"]) for t in thresholds),
                      notes_again(evaluation))
        blocks += [chart(threshold_curve(thresholds), f"AP and F1 over the IoU that a match needs. {alt}.",
                         "Where the curve falls early, objects are found but their outlines are off."),
                   Fold("The figures behind it", (table,))]
    return (Section("Counts, and how exact outlines are", tuple(blocks), "counts"),) if blocks else ()


def groups_section(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    """The mean of each group of images; none where images are not grouped."""
    rows = [r for r in evaluation["per_image"] if r.get("group") is not None]
    if not rows:
        return ()
    key, name = main_score(evaluation)
    members: dict[str, list[float | None]] = {}
    for row in rows:
        members.setdefault(str(row["group"]), []).append(row[key])
    known = {g: [v for v in values if v is not None] for g, values in members.items()}
    means = {g: sum(v) / len(v) if v else None for g, v in known.items()}
    ordered = sorted(means, key=lambda g: (means[g] is None, means[g] or 0.0, g))
    figure = chart(per_image_scores(ordered, [means[g] for g in ordered], name), f"Mean {name} of each group, lowest first.",
                   f"Mean {name} of the images of each of {count(len(ordered), 'group')}, lowest first; the line is their mean.")
    table = Table(("group", "images", f"mean {name}", "lowest", "highest"), tuple(
        (g, len(members[g]), means[g], min(known[g], default=None), max(known[g], default=None)) for g in ordered),
        notes_again(evaluation))
    told = (evaluation.get("groups") or {}).get("says")
    text = f"Images belong together: {told}. Intervals are over groups, for images of one group resemble each other." if told else (
        "Intervals are over groups, for images of one group resemble each other.")
    return (Section("Each group", (Paragraph(text), figure, folded(table, "groups")), "groups"),)


def paired_section(evaluation: Mapping[str, Any], pictures: Sequence[Gallery] = ()) -> tuple[Section, ...]:
    """How these predictions compare with others of the same images, and which images became wrong; none without others.

    pictures: of some that became wrong.
    """
    found = evaluation.get("paired")
    if not found:
        return ()
    key, name = main_score(evaluation)
    wrong, right = found.get("newly_wrong") or [], found.get("newly_right") or []
    blocks: list[Block] = [Paragraph(_verdict(found["difference"].get(key) or {}, name, str(found["other"]))),
                           _differences(evaluation, found, "these less the others")]
    for title, rows in (("became wrong", wrong), ("became right", right)):
        if rows:
            table = Table((f"image that {title}", f"{name}, others", f"{name}, these"), tuple(
                (str(r["name"]), r["other"], r["this"]) for r in rows), notes_again(evaluation))
            blocks.append(folded(table, f"images that {title}"))
    if not wrong:
        blocks.append(Paragraph("No image became wrong."))
    blocks += pictures
    missing = found.get("only_here") or ()
    if missing:
        blocks.append(Paragraph(f"Not compared, since the others lack them: {', '.join(map(str, missing))}."))
    return (Section("Compared with other predictions", tuple(blocks), "paired"),)


def _verdict(one: Mapping[str, Any], name: str, other: str) -> str:
    """What can be said of the difference in the main score."""
    if one.get("mean") is None:
        return f"Compared with {other}. The difference in {name} is undefined."
    text = f"Compared with {other}, mean {name} differs by {one['mean']:+.3f} over {count(int(one['n']), 'image')}"
    if one.get("low") is None or str(one.get("kind", "")).startswith("range"):
        return f"{text}: too few for an interval."
    p = f", p = {one['p']:.2g}" if one.get("p") is not None else ""
    text += f" ({one['low']:+.3f} to {one['high']:+.3f}{p})"
    if one["low"] > 0 or one["high"] < 0:
        return f"{text}: these predictions are {'better' if one['mean'] > 0 else 'worse'} than chance explains."
    return f"{text}: chance alone could explain it."


def _differences(evaluation: Mapping[str, Any], other: Mapping[str, Any], what: str) -> Table:
    """A row a score: the other side's mean, the difference with its interval, and p."""
    names = {**(SCORES if evaluation.get("kind") == "instances" else {}), **titles(evaluation)}
    rows: list[tuple[Cell, ...]] = []
    for key, name in names.items():
        one = other["difference"].get(key)
        if one:
            rows.append((name + (" (less is better)" if key in LESS else ""), other.get("mean", {}).get(key), one["mean"],
                         one["low"], one["high"], ends_of(one), one.get("p"), one["n"]))
    return Table(("metric", "others, mean", what, "low", "high", "low and high are", "p", "images"), tuple(rows),
                 notes_again(evaluation))


def annotator_section(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    """What a second annotator scores: the human ceiling; none without one."""
    found = evaluation.get("annotator")
    if not found:
        return ()
    key, name = main_score(evaluation)
    interval = (found.get("intervals") or {}).get(key) or {}
    sure = "" if interval.get("low") is None else (
        f"{show(interval['low'])} to {show(interval['high'])} ({ends_of(interval)})")
    headline = Headline(((f"{name} of the annotator", found["mean"].get(key), sure),
                         (f"{name} of the predictions", evaluation["mean"].get(key), "over all images, as above"),
                         ("difference", (found["difference"].get(key) or {}).get("mean"), "predictions less annotator, same "
                                                                                          "images")))
    table = _differences(evaluation, found, "predictions less annotator")
    table = Table(("metric", "annotator, mean", *table.columns[2:]), table.rows, table.footnotes)
    said = str(found.get("says") or "")
    return (Section("How well do two people agree?", (headline, *((Paragraph(said),) if said else ()), table), "annotator"),)
