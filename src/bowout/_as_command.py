"""The first import of the package: it prepares the others if they are those of the command.

``python -m bowout`` imports the package before it runs ``bowout/__main__.py``. Until then, `sys.argv` begins with
``-m``, and the name is the last word of `sys.orig_argv` that is no argument of ours.
"""

import sys


def _is_command() -> bool:
    if "bowout_command" in sys.modules:  # the console script
        return True
    return sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] in {"bowout", "-mbowout"}


if _is_command():
    import bowout_command

    bowout_command.before_the_package()
