"""``python -m refine <command> key=value ...``."""

import sys

from refine.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
