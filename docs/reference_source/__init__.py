"""What the pages of the reference are made from: a module for each kind of thing."""
