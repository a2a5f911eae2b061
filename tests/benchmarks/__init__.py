"""Our uploader and its peers, measured against a sink on this machine.

    python -m tests.benchmarks            # about ten minutes; the table of goals
    python -m tests.benchmarks --quick    # less than three, with smaller files

Linux with two cores, nginx, and ``chunkup-jupyter[bench]``. The client has a core of its
own, the sink the other; peers are used as their documentation says, with the same part
size and as many parts at once, interleaved with ours. Ratios are medians of those of
one round, so what else the machine does hits both sides.

What was tried and did not help: uvloop (nothing for bulk TLS); blocks above 512 KiB
(nothing, and twice the memory); the event loop's own TLS (as much CPU as the HTTP
library's, and it takes a block more than it was told to); kernel TLS (Python cannot turn
it on for a socket that it encrypts for).
"""
