"""Pictures of an ending: the timeline as a two-party sequence diagram, for a terminal or as SVG."""

from bowout.ladder._svg import render_svg
from bowout.ladder._text import render_text

__all__ = ["render_svg", "render_text"]
