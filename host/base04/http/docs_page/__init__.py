"""The page at ``/docs``: it reads ``/openapi.json`` and needs nothing from anywhere else."""
