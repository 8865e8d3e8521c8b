"""``python -m edgeopt`` is the ``edgeopt`` command."""

from edgeopt.cli import main

main()
