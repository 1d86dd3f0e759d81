"""Files in and out. `READERS` and `WRITERS` are plain dicts by suffix; a reader always returns axes and spacing."""

from biomask.io.files import (
    READERS,
    UNREAD,
    WRITERS,
    list_images,
    list_unread,
    open_stored,
    read_image,
    read_label_values,
    read_labels_raw,
    relative_stem,
    write_image,
    write_mask,
    write_picture,
    write_probabilities,
)

__all__ = ["READERS", "UNREAD", "WRITERS", "list_images", "list_unread", "open_stored", "read_image", "read_label_values",
           "read_labels_raw", "relative_stem", "write_image", "write_mask", "write_picture", "write_probabilities"]
