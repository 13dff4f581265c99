from .animation import animate as animate
from .sizes import looks_figure as looks_figure
from .sizes import sizes_figure as sizes_figure
