"""``python -m base04.workers DESCRIPTOR``: a worker, as the supervisor starts it."""

import sys

from base04.workers.worker import main

main(int(sys.argv[1]))
