"""`python -m biomask`, and what `torchrun -m biomask` starts."""

import os
import sys

from biomask.cli import main

if __name__ == "__main__":
    code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Threads of the process group may outlive it for a moment, and the interpreter's end would abort over them; files
        # are complete by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
