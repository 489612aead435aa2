"""What the pipeline runs an action with."""
