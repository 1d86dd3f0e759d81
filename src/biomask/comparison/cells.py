"""The trainings that a comparison is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biomask.comparison.options import CompareOptions
from biomask.comparison.splits import Splits, TestSplit, some_of
from biomask.errors import UsageError
from biomask.recipe import Recipe


@dataclass(frozen=True)
class Cell:
    """One training of the comparison."""

    recipe: Recipe
    seed: int
    fold: int
    """From 1."""
    size: int | None
    """Number of training images of a learning curve; None = all."""
    split: TestSplit

    @property
    def place(self) -> str:
        """Folder below cells/."""
        some = "" if self.size is None else f"-{self.size}-images"
        return f"{self.recipe.name}/seed-{self.seed}{some}/fold-{self.fold}"


def plan_cells(recipes: Sequence[Recipe], splits: Splits, options: CompareOptions) -> list[Cell]:
    """All trainings, fold by fold, so that a comparison that is stopped has some of each recipe.

    Raises UsageError for a learning curve of more images than there are.
    """
    least = min(len(s.train) for s in splits.splits)
    if max(options.sizes, default=0) > least:
        raise UsageError(f"--images {max(options.sizes)}: a training has {least} images", fix=f"at most {least}")
    sizes = [*sorted(n for n in options.sizes if n < least), None]
    return [Cell(recipe, seed, fold, size, split if size is None else some_of(split, size, seed))
            for fold, split in enumerate(splits.splits, start=1) for seed in options.seeds for size in sizes for recipe in recipes]
