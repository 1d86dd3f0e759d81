"""`python -m biomask`, and what `torchrun -m biomask` starts."""

import sys

from biomask.cli import main

if __name__ == "__main__":
    sys.exit(main())
