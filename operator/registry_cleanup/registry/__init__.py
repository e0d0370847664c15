"""The registry side: the `/v2/` API, its logins and what deletion really does. `httpx` is imported here only."""
