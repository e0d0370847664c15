"""kopf only: events of policies wake the supervisor, and the operator starts and stops."""
