"""``python -m bowout`` is the command ``bowout``."""

import sys

from bowout.cli import main

sys.exit(main())
