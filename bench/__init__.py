"""The benchmark: this server beside llama-server and the bare loop, on one machine, in one run (see README.md).

It knows servers only by their HTTP and their processes, and the native library only through the bare loop's child. It
judges what it measured by the promises in ``rules.py``; nothing of the server imports it.
"""
