"""The files of one image."""

from __future__ import annotations

from dataclasses import replace

from biomask.checkpoint import Model
from biomask.image import Image
from biomask.io import write_mask, write_picture, write_probabilities
from biomask.io.files import write_ids
from biomask.labels import Legend
from biomask.prediction.attention import draw_attention, gate_names
from biomask.prediction.folder import Job
from biomask.prediction.found_files import points_of, write_found
from biomask.prediction.one_image import Predicted
from biomask.prediction.outlines import draw_outlines, stretched
from biomask.prediction.overlay import draw_detections


def write_results(job: Job, image: Image, predicted: Predicted, model: Model) -> None:
    """Probabilities, attention, detections, labels, outlines and masks; masks last: their presence says that the image is done."""
    legend, decided, found = model.legend, predicted.decided, predicted.found
    if job.detections is not None and predicted.detections is not None:
        write_found(job.detections, predicted.detections, model, job.image_name, (image.size[0], image.size[1]))
    if job.probabilities is not None and predicted.maps is not None:
        write_probabilities(job.probabilities, predicted.maps, image.axes, image.spacing, model.task.names(legend))
    if job.attention and predicted.attention is not None:
        values, panels = job.attention
        write_probabilities(values, predicted.attention, image.axes, image.spacing, gate_names(len(predicted.attention)))
        write_picture(panels, draw_attention(image, predicted.attention))
    for path, objects in zip(job.labels, found, strict=True):
        write_ids(path, objects.ids, image.spacing, image.affine)
    if model.task.kind == "multilabel":
        structures = [Legend((legend.entries[0], e)) for e in legend.entries[1:]]
        picture = stretched(image)
        for mask, own in zip(decided, structures, strict=True):
            picture = draw_outlines(image, mask, own, onto=picture)
        write_picture(job.outlines, picture)
        for path, mask, own in zip(job.masks, decided, structures, strict=True):
            shown = Legend((own.entries[0], replace(own.entries[1], value=255)))
            write_mask(path, shown.values_of(mask), shown, image.spacing, image.affine)
        return
    if predicted.detections is not None:
        write_picture(job.outlines, draw_detections(image, predicted.detections, legend, points_of(model)[1]))
        write_mask(job.masks[0], legend.values_of(decided), legend, image.spacing, image.affine)
        return
    objects_drawn = found[0].ids if model.task.kind == "instances" and found else None
    write_picture(job.outlines, draw_outlines(image, decided, legend) if objects_drawn is None else
                  draw_outlines(image, objects_drawn, None))
    write_mask(job.masks[0], legend.values_of(decided), legend, image.spacing, image.affine)
