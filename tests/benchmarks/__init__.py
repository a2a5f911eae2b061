"""Our uploader and its peers, measured against a sink on this machine.

``python -m tests.benchmarks`` (needs nginx and ``chunkup-jupyter[bench]``).
"""
