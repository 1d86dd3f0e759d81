"""The model card: what a model is for, what it was made from, and where it was never tried (after Mitchell et al. 2019,
doi:10.1145/3287560.3287596)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from biomask.reports.blocks import KeyValues, Points, Section, Subtitle, show
from biomask.reports.methods import data_said, held_out_said, spacing_text, training_methods
from biomask.reports.run import Run, digest
from biomask.reports.scores import meaning_of
from biomask.reports.sentences import foreground, listed, tuned_score

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader

CARD_FILE = "model_card.md"

#: Fewer images are few.
FEW_IMAGES = 30

#: Classes of a smaller share of the pixels are rare; a Dice below it says that one was hardly learnt.
RARE, HARDLY = 0.01, 0.5

#: What Markdown takes for the beginning of a tag or of an entity. A "<" before a number is a sign, and stays one.
MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")

MEDICAL = ("Not a medical device: for research, not for diagnosis, treatment or any decision about a patient. Nothing here was "
           "validated for that.")

NO_ORIGIN = ("The licence of the training images is not known to biomask. Who shares the model has to state it here; a file "
             "LICENSE or README in the data folder would have been named.")

NO_LICENCE = "The licence of this model is not known to biomask. Who shares the model has to state it here."


@dataclass(frozen=True)
class Card:
    """A model card in plain text."""

    facts: tuple[tuple[str, str], ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    """(heading, sentences) each."""


def _over(header: ModelHeader) -> str:
    """On how many images a score is, and what it became by tuning."""
    tuned = tuned_score(header.scores)
    over = f" on {header.scored} held-out images" if header.scored else ""
    return over + (f", {show(tuned)} once tuned" if tuned is not None else "")


def model_card(header: ModelHeader, run: Run) -> Card:
    """What can be said of a model without knowing its images."""
    meaning, score = meaning_of(header), header.scores.get("validation.score")
    ensemble = f"mean of {header.members} networks, " if header.members > 1 else ""
    size = f", {run.parameters:,} parameters" if run.parameters else ""
    facts = (("segments", foreground(header)),
             ("network", f"{ensemble}{header.recipe.network.name}, {header.spatial_dims}D{size}"),
             ("recipe", header.recipe.name),
             (f"validation {meaning.name}",
              "none" if score is None else f"{show(score)} ({meaning.over}){_over(header)}; it chose the weights"),
             ("made", " by ".join(filter(None, [run.written[:10], f"biomask {header.biomask_version}"]))),
             ("SHA-256 of the model", run.sha256),
             ("SHA-256 of all training files", digest(header.data_hashes) if header.data_hashes else ""))
    return Card(tuple((k, v) for k, v in facts if v), (
        ("What it was trained on", tuple(filter(None, (data_said(header, run), held_out_said(header, run))))),
        ("What it is meant for", (_meant(header),)),
        ("What it was not tried on", tuple(_untried(header, run))),
        ("Limits", tuple(_limits(header, run))),
        ("Licence", (run.origin or NO_ORIGIN, NO_LICENCE)),
        ("Use", (MEDICAL,))))


def _meant(header: ModelHeader) -> str:
    return (f"Finding {foreground(header)} in images like those it was trained on: of the same kind of specimen, made and stained "
            "in "
            "the same way, with the same instrument and settings. 'biomask predict' says which images differ from them in what it "
            "can measure; whether the specimen does is for a person to say.")


def _untried(header: ModelHeader, run: Run) -> list[str]:
    inputs = header.inputs
    other = "volumes" if header.spatial_dims == 2 else "single planes"
    channels = (listed(header.channel_names) if header.channel_names else
                f"{header.in_channels} channel{'s' * (header.in_channels != 1)}")
    found = [f"Images of other than {channels}, and {other}: they are refused."]
    if inputs is not None and inputs.spacing is not None:
        low, high = ({a: s[k] for a, s in inputs.spacing.items()} for k in (0, 1))
        span = spacing_text(low) if low == high else f"{spacing_text(low)} to {spacing_text(high)}"
        found.append(f"Pixels of another size than {span} (z, y, x): objects would look larger or smaller than any in training.")
    else:
        found.append(f"Another magnification than that of the training images, which is {spacing_text(header.spacing)}."
                     if header.spacing else "Another magnification than that of the training images, whose pixel size is not "
                                            "known.")
    if run.sizes:
        found.append(f"Images of other sizes than {run.size_text}. Larger ones are predicted in tiles that leave no seams.")
    dtypes = inputs.dtypes if inputs is not None else (header.dtype,) if header.dtype else ()
    if dtypes:
        found.append(f"Other bit depths than {listed(dtypes)}.")
    if inputs is not None:
        spans = zip(inputs.middle, inputs.bright, strict=True)
        each = [f"half of the pixels below {m[0]:.4g} to {m[1]:.4g}, 99 % below {b[0]:.4g} to {b[1]:.4g}" for m, b in spans]
        named = each if len(each) == 1 else [f"channel {n}: {text}" for n, text in enumerate(each)]
        found.append(f"Darker or brighter images than those of training, which have {'; '.join(named)}.")
    found.append("Structures that nobody labelled: they are background, or taken for what looks most alike.")
    return found


def _limits(header: ModelHeader, run: Run) -> list[str]:
    found = []
    if 0 < run.images < FEW_IMAGES:
        found.append(f"It has seen {run.images} image{'s' * (run.images != 1)} only, which are unlikely to show all that occurs.")
    if header.scores.get("validation.score") is not None:
        found.append("The validation score is of the images by which the weights were chosen, so it flatters. A figure to publish "
                     "needs images that took no part in training ('biomask evaluate').")
    else:
        found.append("It was scored on no image: nothing is known of how right it is.")
    if run.groups is None and run.images > 1:
        found.append("Each image was taken for a sample of its own. If several are of one specimen or patient, held-out images "
                     "resemble those of training, and the score flatters more (--groups).")
    found += [f"{name} was rare in training ({share:.2g} of the pixels)." for name, share in header.shares.items() if share < RARE]
    found += [f"{key.removeprefix('validation.')} was hardly learnt (Dice {value:.2f} on the held-out images)."
              for key, value in header.scores.items() if key.startswith("validation.") and value is not None and value < HARDLY
              and key not in ("validation.score", "validation.ap50")]
    if run.state.startswith("stopped"):
        found.append(f"Training did not use up its budget: {run.state}.")
    return found


def card_section(card: Card) -> Section:
    """For a report."""
    blocks = [b for title, texts in card.parts for b in (Subtitle(title), Points(texts))]
    return Section("Model card", (KeyValues(card.facts), *blocks), "card")


def card_markdown(header: ModelHeader, run: Run, card: Card) -> str:
    """The card as a Markdown page that goes where the model goes, with the Methods paragraph."""
    methods = training_methods(header, run)
    lines = [f"# Model card: {foreground(header)}", "", *(f"- **{key}**: {value}" for key, value in card.facts), ""]
    for title, texts in (*card.parts, ("Methods", (methods.text,))):
        lines += [f"## {title}", "", *_paragraphs(texts), ""]
    lines += ["## References", "", *(f"{n}. {text}" for n, text in enumerate(methods.references, start=1))]
    return MARKUP.sub(lambda found: escape(found[0]), "\n".join(lines)) + "\n"


def _paragraphs(texts: Sequence[str]) -> list[str]:
    return list(texts) if len(texts) == 1 else [f"- {text}" for text in texts]
