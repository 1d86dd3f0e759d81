"""Write docs/explanation/papers.md and its plots: our rows beside the papers' own numbers, from benchmarks/results/papers/*.json.

    python docs/papers.py

No number of ours is typed here: `python benchmarks/papers.py` made the results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from networks import save, table
from paper_figures import FIGURES, digest
from paper_numbers import PUBLISHED, RESULTS, Result, called, cost, isbi, load, number, of, printed, reached, rows_of, sizes, within

DOCS = Path(__file__).parent
PAGE, IMAGES = DOCS / "explanation" / "papers.md", DOCS / "images" / "papers"


def main() -> None:
    results = load()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        if (figure := draw(results, PUBLISHED)) is not None:
            save(figure, IMAGES / f"{name}.png", digest(results, PUBLISHED))
    PAGE.write_text(page(results), encoding="utf-8")


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    sections = (isbi2012, rotations, hela, drishti, dsb2018, pruning, hippocampus, curve, made)
    return "\n\n".join(part.strip() for part in (HEAD, *(section(results) for section in sections)) if part) + "\n"


HEAD = """
<!-- written by `python docs/papers.py`; a test compares -->
# The papers' tables, made again

Every row here is a recipe that was trained, applied and judged on real data by the command line, by `python benchmarks/papers.py`;
the papers' own numbers stand beside it. The data cannot be shipped, the results can: each row is a file in
`benchmarks/results/papers`, with its command, commit, seed, versions, machine and the hash of its data. Tables and plots are
written from these files.

**Read this first.** These rows are *reduced*: narrow networks, or a few hundred steps, or both, on two CPU cores; minutes where
the papers took hours on GPUs. They show that each system runs from end to end, and what it is like after minutes. They do not
rank the systems: a recipe with a low learning rate and no batch normalisation needs far longer.
`python benchmarks/papers.py --full` makes them at the recipes' own width, with the papers' budgets where these are known, and wants
a GPU. Each row is one seed, so differences of a hundredth or two between recipes mean little. Brackets hold 95 % bootstrap
intervals over test images; of fewer than eight images the range of the images. The budget is the steps; the minutes are those of a
machine that did other work too, most of them on one core.

![IoU of our reduced rows and of the papers](../images/papers/published.png)
"""


def isbi2012(results: Sequence[Result]) -> str:
    """Membranes, all 2D recipes."""
    rows = sorted(rows_of(results, "isbi2012"), key=lambda r: -(isbi(r, "rand_f_thinned") or 0))
    lines = [["recipe", "parameters", "steps", "minutes", "membrane Dice", "Rand F after thinning", "V_info after thinning",
              "Rand error", "warping error", "warping, all pixels", "pixel error"]]
    lines += [[called(r), *cost(r), number(of(r, "per_class", "0", "dice")), number(isbi(r, "rand_f_thinned")),
               number(isbi(r, "information_f_thinned")), number(isbi(r, "rand_error")), number(isbi(r, "splits_and_mergers"), 6),
               number(isbi(r, "warping_error"), 4), number(isbi(r, "pixel_f_error"))] for r in rows]
    lines += [[what, *[""] * 6, printed("isbi2012", recipe, "rand_error"), printed("isbi2012", recipe, "warping", 6), "",
               printed("isbi2012", recipe, "pixel")]
              for recipe, what in (("unet-2015", "*the U-Net paper*"), ("sliding-window-2012", "*IDSIA 2012, in the same table*"))]
    return f"""
## ISBI 2012: membranes

Slices 00–23 of the training stack train, 24–29 test. Of ten thresholds the best counts, for each score, as in the challenge. The
papers' numbers are of the challenge's own test stack, whose truth is not public: compare their size and no more.

{table(lines)}

Rand error: 1 − the Rand F-score without thinning. Warping error: splits and mergers, as a share of the pixels; a map without any
shape has few of them, so read it beside the next column, all pixels on which the warped truth differs. Pixel error: 1 − the F-score
of cell pixels; several rows have that of calling everything cell. `fcn-16s` and `fcn-8s` begin with the weights of the one before,
as in their paper; none begins with those of VGG-16.

{sizes(rows)}

![Membrane Dice, Rand F after thinning and warping error of each recipe](../images/papers/isbi2012.png)

*A warping error of 0, of a map without shapes, is not drawn.*

Why the papers' recipes are worse here than in the papers: the U-Net was trained for ten hours, at four times the width and on
larger tiles, where `unet-2015` (SGD without batch normalisation, one tile a step) has just begun. UNet++ without batch
normalisation and with half of its channels dropped needs more than these steps to leave the start. FCN without the weights of
VGG-16, at a quarter of its width, learns little from 24 slices, and its scores are 32 pixels apart. The sliding window learns from
64 pixels a step, the others from whole patches.
"""


def rotations(results: Sequence[Result]) -> str:
    """One model, with and without the mean over seven copies."""
    lines = [["recipe", "prediction", "membrane Dice", "Rand F after thinning", "Rand error", "warping error", "pixel error"]]
    columns = (("rand_f_thinned", 4), ("rand_error", 4), ("splits_and_mergers", 6), ("pixel_f_error", 4))
    lines += [[called(r), variant, number(of(r, "per_class", "0", "dice", variant=variant), 4),
               *(number(isbi(r, key, variant), digits) for key, digits in columns)]
              for r in rows_of(results, "isbi2012") if len(r["scores"]) > 1 for variant in r["scores"]]
    return f"""
### The mean over seven rotations

The same model, alone and as the mean over seven turned and mirrored copies of the slice:

{table(lines)}
"""


def hela(results: Sequence[Result]) -> str:
    """Cells."""
    rows = rows_of(results, "hela")
    lines = [["recipe", "parameters", "steps", "minutes", "SEG", "IoU", "AP at 0.5", "the paper's SEG"]]
    lines += [[called(r), *cost(r), number(of(r, "metrics", "ctc", "pooled", "seg")), within(r, "iou"), within(r, "ap50"),
               printed("hela", r["row"]["recipe"], "seg")] for r in rows]
    more = json.loads((RESULTS / "hela.json").read_text(encoding="utf-8"))
    lines.append(["`default` as it is", "", str(more["steps"]), f"{more['minutes_training']:.1f}", number(more["SEG"]),
                  *(number(more["scores"]["mean"][key]) for key in ("iou", "ap50")), "–"])
    return f"""
## Cell Tracking Challenge: DIC HeLa

Frames 000–024 of the silver truth train, five completely hand-annotated frames of the same film test. SEG is the challenge's score,
which the paper calls IoU; the column IoU is of foreground against background, whichever cell.

{table(lines)}

{sizes(rows)} The last row is by `benchmarks/real_data.py`. The paper's number is of the challenge's own test films, and it had
about 20 partly annotated frames: a higher SEG on frames of the film that trained is no better result. `unet-2015-same` is worse for
the reasons named above.
"""


def drishti(results: Sequence[Result]) -> str:
    """Optic disc and cup."""
    rows = rows_of(results, "drishti")
    lines = [["recipe", "parameters", "steps", "minutes", "IoU", "soft Dice", "1 − soft Dice", "BCE", "Dice, disc", "Dice, cup",
              "the article's IoU", "its “Dice”", "its BCE"]]
    for r in rows:
        structures = {c["name"]: c["dice"] for c in of(r, "per_class").values()}
        lines.append([called(r), *cost(r), within(r, "metrics", "article", "iou"),
                      *(number(of(r, "metrics", "article", "mean", key)) for key in ("dice", "dice_loss", "bce")),
                      number(structures["disc"]), number(structures["cup"]),
                      *(printed("drishti", r["row"]["recipe"], key) for key in ("iou", "printed", "bce"))])
    told = [f"an IoU of {v['iou']:.4f} (`{recipe}`) is a Dice of {2 * v['iou'] / (1 + v['iou']):.4f}, where {v['printed']:.4f} is "
            "printed" for recipe, v in PUBLISHED["drishti"].items()]
    return f"""
## Drishti-GS: optic disc and cup

As the article prepared them: images padded to a square and scaled to 224 × 224, a structure wherever one of four experts saw it;
official split, 50 train and 51 test. Scores are computed as in the article's code (`biomask evaluate --metrics article`), but that
each image is a batch of its own.

{table(lines)}

{sizes(rows)} The article has 50 epochs of 10 steps at 1e-4 and the full width; the higher rate makes up for fewer steps.
{reached("drishti", rows, lambda r: of(r, "metrics", "article", "mean", "iou"), "iou")}

**What the article prints as its Dice coefficient is the Dice loss.** Of two sets, Dice = 2 IoU / (1 + IoU), so that it is never
below the IoU: {"; ".join(told)}. What was logged under that name is 1 − soft Dice, the loss; the columns above give both, and their
sum is 1. Our rows show the same: the masks have a Dice well above their IoU, and the probabilities, far from 0 and 1 after so short
a training, a soft Dice far below it.

![Truth and prediction of four test images](../images/papers/drishti.png)

*Four test images, cut out around the disc: truth above, prediction of `unet-drishti` below; disc red, cup yellow. The photographs
are left out, since they are for research and education alone; `benchmarks/papers.py` also writes the picture with them.*
"""


def dsb2018(results: Sequence[Result]) -> str:
    """Nuclei at UNet++'s setting."""
    rows = rows_of(results, "dsb2018")
    lines = [["recipe", "parameters", "steps", "minutes", "IoU, mean over images", "IoU, all pixels", "the paper's IoU"]]
    lines += [[called(r), *cost(r), within(r, "iou"), number(of(r, "pooled", "iou")), printed("dsb2018", r["row"]["recipe"], "iou")]
              for r in rows]
    return f"""
## DSB 2018: nuclei at the setting of UNet++

A grey crop of 96 × 96 pixels of each image, 523 train and 59 test (groups of images are never split); nucleus against background.
The paper has 670 images of this size; how they were cut and which tested is not known.

{table(lines)}

{sizes(rows)} That is half of the paper's width. {reached("dsb2018", rows, lambda r: of(r, "mean", "iou"), "iou")} The paper
trained until nothing improved; here each crop is seen a few times. `unet++` and `unet++-l4` drop half of the channels after every
convolution, as in the authors' code, and learn more slowly for it than the U-Nets, which drop some at the bottom only: at so small
a budget that costs more than dense skips give.
"""


def pruning(results: Sequence[Result]) -> str:
    """What each depth of a UNet++ gives, from the one model."""
    lines = [["", "parameters", "seconds a megapixel", "time saved", "IoU on the test images",
              "Dice of both classes, held-out images"]]
    for r in (r for r in rows_of(results, "dsb2018") if r["heads"]):
        whole = max((h for h in r["heads"] if h["mode"] == "fast"), key=lambda h: h["depth"])
        for h in r["heads"]:
            alone = h["mode"] == "fast"
            lines.append([f"L{h['depth']}" if alone else "all heads, their mean", f"{h['parameters']:,}", f"{h['seconds']:.3f}",
                          f"{100 * (1 - h['seconds'] / whole['seconds']):.0f} %",
                          within(r, "iou", variant=f"depth {h['depth']}" if alone else ""), number(h["score"])])
    return f"""
### Pruning

The one trained `unet++`, cut at each depth (`biomask predict --depth`):

{table(lines)}

The probability at which nucleus begins is tuned for each depth on the held-out images when training ends. The paper: L3 takes
32.2 % less time on average, for 0.6 points of IoU. After so few steps the intervals overlap, and which depth is better is not
known.

![IoU against prediction time of L1 to L4](../images/papers/pruning.png)
"""


def hippocampus(results: Sequence[Result]) -> str:
    """Volumes."""
    rows = rows_of(results, "hippocampus")
    lines = [["recipe", "parameters", "steps", "minutes", "Dice, anterior", "Dice, posterior", "Dice, mean"]]
    lines += [[called(r), *cost(r), *(number(of(r, "per_class", key, "dice")) for key in ("1", "2")), within(r, "dice")]
              for r in rows]
    more = json.loads((RESULTS / "hippocampus.json").read_text(encoding="utf-8"))
    lines.append(["`default` as it is", "", str(more["steps"]), f"{more['minutes_training']:.1f}",
                  *(number(more["scores"]["per_class"][key]["dice"]) for key in ("1", "2")),
                  number(more["scores"]["mean"]["dice"])])
    return f"""
## Hippocampus: volumes

MR volumes of the Medical Segmentation Decathlon, 156 train, every fifth tests. None of the papers has these data: the Attention
U-Net was published on CT of the pancreas, UNet++ in 3D on lung nodules. There is no number to reach, only the three on the same
data.

{table(lines)}

{sizes(rows)} `default` on volumes is the 3D U-Net; the last row is by `benchmarks/real_data.py`. `attention-unet-3d` was published
with a thousand epochs, and `unet++-3d`, with its dropout and without batch normalisation, needs more than a few hundred steps.
"""


def curve(results: Sequence[Result]) -> str:
    """More images."""
    rows = sorted(rows_of(results, "curve"), key=lambda r: r["row"]["training_images"])
    lines = [["training images", "steps", "minutes", "AP at 0.5", "F1"]]
    lines += [[str(r["row"]["training_images"]), *cost(r)[1:], within(r, "ap50"), within(r, "f1")] for r in rows]
    return f"""
## Learning curve: nuclei

DSB 2018 as objects, whole images, recipe `default`, the same steps from 5, 10, 20 and 30 training images, drawn at random; the same
59 images test.

{table(lines)}

{sizes(rows)} After so few steps it is steps that are short more than images, and each point is one draw, so that the curve is
nearly flat; [Training](training.md) has it after minutes of training, and with all images.

![AP at IoU 0.5 against the number of training images](../images/papers/curve.png)
"""


def missing(results: Sequence[Result]) -> list[str]:
    """Names of the rows of benchmarks/paper_rows.py that were not made yet."""
    sys.path.append(str(DOCS.parent / "benchmarks"))
    from paper_rows import ROWS

    there = {(r["row"]["table"], r["row"]["recipe"], r["row"]["training_images"]) for r in results}
    return [r.name for r in ROWS if (r.table, r.recipe, r.images) not in there]


def made(results: Sequence[Result]) -> str:
    """What made the rows."""
    def once(values: Sequence[str]) -> str:
        return ", ".join(f"`{v}`" for v in dict.fromkeys(values))

    data = {r["row"]["table"] + (f" of {r['row']['training_images']} images" if r["row"]["training_images"] else ""):
            r["data_sha256"][:8] for r in results}
    open_rows = missing(results)
    left = f" Not made yet: {', '.join(f'`{name}`' for name in open_rows)}." if open_rows else ""
    return f"""
## What made these rows

{len(results)} rows.{left}

Commits: {once([r["commit"] for r in results])}. Machines: {once([r["machine"] for r in results])}. Versions:
{once([f"{k} {v}" for r in results for k, v in r["versions"].items()])}. Dates: {once([r["date"] for r in results])}.

First digits of the SHA-256 of each prepared data folder: {", ".join(f"{name} `{digits}`" for name, digits in data.items())}.
"""


if __name__ == "__main__":
    main()
