"""Numbers that several modules of this package share."""

#: More values than this are taken for something else than classes, unless told.
MOST_CLASSES = 64
