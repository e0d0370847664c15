"""Scripts that get digest and date of each tag by other clients; they run in the environment of these clients.

Each is called `SCRIPT HOST RESULT REPOSITORY…` and writes a line for each tag: repository, tag, digest, date. It has 8
requests in flight, and reads the config of each distinct digest once, as somebody would who takes care.
"""
