"""``python -m base04``."""

from base04.cli import main

main()
