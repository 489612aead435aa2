"""What the host tells of its work while it does it: the marks of log lines, traces, and logs for a collector."""
