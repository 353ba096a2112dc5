"""python -m celeb_basis"""

from .cli import main

raise SystemExit(main())
