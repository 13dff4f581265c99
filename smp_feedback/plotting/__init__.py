"""The only room that draws; it needs the extra ``plot``."""

from smp_feedback.errors import require

require("matplotlib", extra="plot")
