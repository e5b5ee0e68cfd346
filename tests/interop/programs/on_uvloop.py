"""A byte pipe over asyncio's streams, on uvloop."""

from __future__ import annotations

import uvloop

from interop.programs.on_asyncio import main
from interop.programs.pipe import Arguments

uvloop.run(main(Arguments()))
