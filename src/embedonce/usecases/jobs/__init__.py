"""Submit + poll: tickets on their way through worker, poller and janitor to a vector."""
