"""python -m celeb_basis"""

from celeb_basis.cli import main

raise SystemExit(main())
