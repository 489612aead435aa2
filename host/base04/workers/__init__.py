"""Several processes that serve as one host, and the supervisor that looks after them."""
