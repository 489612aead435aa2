"""The action pack ``mailer``."""
