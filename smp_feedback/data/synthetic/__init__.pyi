from .base import Scene as Scene
from .base import Synthetic as Synthetic
from .polygons import Circles as Circles
from .polygons import OnePolygon as OnePolygon
from .polygons import Polygons as Polygons
from .polygons import PolygonsAndCircles as PolygonsAndCircles
from .shapes import Shapes as Shapes
