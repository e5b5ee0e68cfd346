"""``python -m bowout`` is the command ``bowout``."""

import sys

from bowout_command import main

sys.exit(main())
