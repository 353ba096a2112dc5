"""Put a person from one photograph into any picture a text-to-image model can draw.

The public names are listed in __init__.pyi and loaded when they are first used: importing the package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
