"""Files in and out. `READERS` and `WRITERS` are plain dicts by suffix; a reader always returns axes and spacing."""

from biomask.io.files import (
    READERS,
    WRITERS,
    list_images,
    list_unread,
    read_image,
    read_label_values,
    relative_stem,
    write_mask,
    write_picture,
    write_probabilities,
)

__all__ = ["READERS", "WRITERS", "list_images", "list_unread", "read_image", "read_label_values", "relative_stem", "write_mask",
           "write_picture", "write_probabilities"]
