"""The use cases: pull, jobs, models, plan, generate.

The only place where catalogue, hub, fit, pool and chat meet: it gets them as ready parts and owns how they
work together. It must know nothing of HTTP or of any dialect.
"""
